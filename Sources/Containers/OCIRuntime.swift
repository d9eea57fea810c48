import CLinux
import Disk
import Dispatch
import Glibc
import Resource

/// Containers run by an OCI runtime binary, each with a monitor process that outlives the server.
package struct OCIRuntime: Sendable {
    /// A container's folder: `config.json`, `monitor.lock`, `exit` and the runtime's log lie in it.
    package struct Container: Sendable {
        package var id: String
        package var folder: String
        package var log: String

        package init(id: String, folder: String, log: String) {
            self.id = id
            self.folder = folder
            self.log = log
        }
    }

    package let tool: String
    private let state: String
    private let monitor: String

    /// Finds `crun`, else `runc`; `preferred` names one or the other. `state` is the runtime's own folder.
    package init(preferred: String?, state: String) throws(RoostError) {
        let names = preferred.map { [$0] } ?? ["crun", "runc"]
        guard let tool = names.lazy.compactMap({ $0.hasPrefix("/") ? $0 : Command.find($0) }).first(where: Files.exists) else {
            throw RoostError(.internalFault, "no OCI runtime (\(names.joined(separator: ", "))) found: apt-get install crun")
        }
        let beside = Files.parent(of: OCIRuntime.ownPath) + "/roost-monitor"
        guard Files.exists(beside) else {
            throw RoostError(.internalFault, "\(beside) is missing: it is built and installed with roost")
        }
        self.tool = tool
        self.state = state
        monitor = beside
    }

    private static var ownPath: String {
        var buffer = [CChar](repeating: 0, count: 4_096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
        return String(decoding: buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Starts a container; returns the process id of its first process. `prepared` is called with it once all mounts are
    /// there and nothing of the image has run.
    @discardableResult
    package func start(
        _ container: Container, spec: ContainerSpec, prepared: (@Sendable (Int32) -> Void)? = nil
    ) async throws -> Int32 {
        let bytes = try spec.configuration().bytes
        try await Blocking.run {
            try Files.withDescriptor(container.folder + "/config.json", flags: O_WRONLY | O_CREAT | O_TRUNC) {
                try Files.write(bytes, to: $0, path: container.folder)
            }
            try Files.makeDirectories(state)
        }
        let output = try await Command.output(
            monitor,
            [
                container.folder, container.log, String(Limits.logFileBytes), tool, "--root", state, "--log",
                container.folder + "/runtime.log",
            ] + (prepared == nil ? ["run", "--detach"] : ["create"]) + [
                "--bundle", container.folder, "--pid-file", container.folder + "/container.pid", container.id,
            ])
        guard output.code == 0, let pid = Int32(output.stdout.filter(\.isNumber)) else {
            throw RoostError(.internalFault, "the container did not start: \(output.stdout.prefix(2_000))\(output.stderr.prefix(500))")
        }
        guard let prepared else { return pid }
        try await Blocking.run { prepared(pid) }
        let started = try await Command.output(tool, ["--root", state, "start", container.id])
        guard started.code == 0 else {
            throw RoostError(.internalFault, "the container did not start: \(started.stderr.prefix(2_000))")
        }
        return pid
    }

    /// Whether a container's monitor, and so possibly the container, still lives.
    package func isRunning(_ container: Container) throws -> Bool { try Files.isLocked(container.folder + "/monitor.lock") }

    /// Returns once the container has ended, with how. Cancelling returns nil.
    package func waitForExit(_ container: Container) async throws -> (code: Int, signal: Int)? {
        if let pid = monitorPID(container), try isRunning(container) { try await ProcessEnd.wait(for: pid) }
        guard !Task.isCancelled else { return nil }
        // No exit file: the monitor itself was killed, and the container with it on our next step.
        let text = (try? Files.read(container.folder + "/exit")).map { String(decoding: $0, as: UTF8.self) } ?? "255 9"
        let numbers = text.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
        return (numbers.first ?? 255, numbers.count > 1 ? numbers[1] : 0)
    }

    /// Sends a signal to the container's first process. A container that is gone is no error.
    package func signal(_ container: Container, _ number: Int32) {
        guard let pid = containerPID(container), (try? isRunning(container)) == true else { return }
        kill(pid, number)
    }

    /// Kills what is left of it and removes the runtime's records of it.
    package func delete(_ container: Container) async throws {
        let output = try await Command.output(tool, ["--root", state, "delete", "--force", container.id])
        if output.code != 0 && !output.stderr.contains("does not exist") && !output.stderr.contains("No such file") {
            throw DiskError(tool, path: container.id, detail: String(output.stderr.prefix(500)))
        }
        await waitForMonitor(container)
    }

    /// A path into a running container's `/`, for looking at its disk from outside.
    package func rootPath(_ container: Container) -> String? { containerPID(container).map { "/proc/\($0)/root" } }

    /// Whether the kernel killed a process of it for memory. Read it before `delete`, which takes the counters away.
    package func ranOutOfMemory(_ id: String) -> Bool {
        let files = ["/sys/fs/cgroup/memory/roost/\(id)/memory.oom_control", "/sys/fs/cgroup/roost/\(id)/memory.events"]
        for file in files {
            guard let bytes = try? Files.read(file) else { continue }
            for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
                let words = line.split(separator: " ")
                if words.first == "oom_kill", words.count == 2, let count = Int(words[1]) { return count > 0 }
            }
        }
        return false
    }

    private func waitForMonitor(_ container: Container) async {
        guard let pid = monitorPID(container), (try? isRunning(container)) == true else { return }
        // Whoever deletes wants it gone; that it cannot be waited for changes nothing about that.
        try? await ProcessEnd.wait(for: pid)
    }

    private func monitorPID(_ container: Container) -> Int32? { pid(container.folder + "/monitor.pid") }
    private func containerPID(_ container: Container) -> Int32? { pid(container.folder + "/container.pid") }

    private func pid(_ path: String) -> Int32? {
        guard let bytes = try? Files.read(path) else { return nil }
        return Int32(String(decoding: bytes, as: UTF8.self).filter(\.isNumber))
    }
}

/// Waits for processes that are not our children.
package enum ProcessEnd {
    private static let queue = DispatchQueue(label: "roost.process-end")

    /// Returns when the process has ended or the task is cancelled.
    package static func wait(for pid: Int32) async throws {
        let descriptor = cl_pidfd_open(pid)
        if descriptor == -ESRCH { return }
        try checkRaw(descriptor, "pidfd_open", String(pid))
        // Dispatch sources may be cancelled from any thread; their type does not say so.
        nonisolated(unsafe) let source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: queue)
        await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                source.setEventHandler { source.cancel() }
                source.setCancelHandler {
                    close(descriptor)
                    continuation.resume()
                }
                source.resume()
            }
        } onCancel: {
            source.cancel()
        }
    }
}
