import Containers
import Disk
import Glibc
import Resource

/// Mounts object stores for workers, each by an rclone of its own, which outlives the server as its worker does.
///
/// rclone is told the credentials by its environment, which only root can read, never by its arguments.
struct BucketMounter: Sendable {
    /// A running rclone.
    struct Process: Sendable {
        var pid: Int32
        var path: String
        fileprivate var log: String

        /// What it said last.
        var lastWords: String { WorkerLog(path: log).lastLine() ?? "it said nothing" }
    }

    /// One folder a worker: mount points, and beside them what is known of their processes.
    let folder: String
    /// The tool, or nil to look for it.
    let tool: String?

    private static let patience = 300
    private static let pause = Duration.milliseconds(50)

    /// Mounts a store and returns once it can be used. `cache` is where writes wait until they are sent.
    func mount(_ mount: BucketMount, from place: ObjectPlace, worker: String, index: Int, cache: String) async throws -> (
        Process, ContainerSpec.Bind
    ) {
        guard let tool = tool ?? Command.find("rclone") else {
            throw RoostError(
                .unavailable, "bucket mounts need rclone and fuse3: apt-get install rclone fuse3, or set 'rclone' in the configuration")
        }
        let base = "\(folder)/\(worker)/\(index)"
        try Files.makeDirectories(base, mode: 0o755)
        var arguments = [
            "mount", "ROOST:\(place.bucket)/\(place.prefix)\(mount.prefix)", base, "--config", "/dev/null", "--allow-other", "--umask",
            "000",
            "--dir-cache-time", "5s", "--vfs-read-chunk-size", "16M", "--low-level-retries", "3", "--timeout", "30s", "--contimeout", "10s",
        ]
        arguments += mount.isWritable ? ["--vfs-cache-mode", "writes", "--vfs-write-back", "0s", "--cache-dir", cache] : ["--read-only"]
        // A shell detaches it: the server may end before the worker does.
        let output = try await Command.output(
            "/bin/sh", ["-c", "setsid \"$@\" >\"$ROOST_LOG\" 2>&1 </dev/null & echo $!", "sh", tool] + arguments,
            environment: Self.environment(place, log: base + ".log"))
        guard let pid = Int32(output.stdout.filter(\.isNumber)), pid > 1 else {
            throw RoostError(.internalFault, "rclone did not start: \(output.stderr.prefix(300))")
        }
        try Files.replace(base + ".pid", with: Array("\(pid) \(Self.startTime(pid) ?? "0") \(mount.path)".utf8))
        let process = Process(pid: pid, path: mount.path, log: base + ".log")
        try await waitUntilMounted(base, process)
        return (process, .init(source: base, target: mount.path, isReadOnly: !mount.isWritable))
    }

    private static func environment(_ place: ObjectPlace, log: String) -> [String: String] {
        let client = place.client
        let prefix = "RCLONE_CONFIG_ROOST_"
        return [
            "ROOST_LOG": log, prefix + "TYPE": "s3", prefix + "PROVIDER": "Other", prefix + "ACCESS_KEY_ID": client.accessKey,
            prefix + "SECRET_ACCESS_KEY": client.secret, prefix + "ENDPOINT": client.endpoint, prefix + "REGION": client.region,
            prefix + "FORCE_PATH_STYLE": client.addressing == .path ? "true" : "false", prefix + "NO_CHECK_BUCKET": "true",
            prefix + "ENV_AUTH": "false",
        ]
    }

    private func waitUntilMounted(_ target: String, _ process: Process) async throws {
        for _ in 0..<Self.patience {
            if Mount.isMounted(target) { return }
            guard Self.startTime(process.pid) != nil else {
                throw RoostError(.unavailable, "the mount at \(process.path) failed: \(process.lastWords)")
            }
            try await Task.sleep(for: Self.pause)
        }
        throw RoostError(.unavailable, "the mount at \(process.path) is not there after 15 seconds: \(process.lastWords)")
    }

    /// The processes of a worker's mounts that still run.
    func processes(of worker: String) -> [Process] {
        ((try? Files.names(in: "\(folder)/\(worker)")) ?? []).filter { $0.hasSuffix(".pid") }.compactMap { name in
            let file = "\(folder)/\(worker)/\(name)"
            let words = (try? Files.read(file)).map { String(decoding: $0, as: UTF8.self).split(separator: " ", maxSplits: 2) } ?? []
            guard words.count == 3, let pid = Int32(words[0]), Self.startTime(pid) == String(words[1]) else { return nil }
            return Process(pid: pid, path: String(words[2]), log: file.dropLast(4) + ".log")
        }
    }

    /// Kills the processes: whoever waits for one of the mounts gets an error at once.
    func abort(_ worker: String) { for process in processes(of: worker) { kill(process.pid, SIGKILL) } }

    /// Undoes all mounts of a worker. What lies in the stores is not touched: a folder is only removed when it is empty.
    func remove(_ worker: String) throws {
        abort(worker)
        let own = "\(folder)/\(worker)"
        for name in (try? Files.names(in: own)) ?? [] {
            let path = own + "/" + name
            if name.hasSuffix(".pid") || name.hasSuffix(".log") {
                unlink(path)
            } else {
                try Mount.remove(path, lazily: true)
                rmdir(path)
            }
        }
        rmdir(own)
    }

    /// When a process began, in clock ticks since boot: with its id it is told from every other. Nil once it is gone.
    private static func startTime(_ pid: Int32) -> String? {
        guard let bytes = try? Files.read("/proc/\(pid)/stat") else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        // The name, in brackets, may hold anything; what follows it does not.
        guard let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 19, fields[0] != "Z" else { return nil }
        return String(fields[19])
    }
}
