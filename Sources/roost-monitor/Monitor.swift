import CLinux
import Glibc

/// The background process: one loop over the two pipes and the end of children.
struct Monitor {
    private let folder: String
    private var log: LogFile
    private let command: [String]
    /// Closed once the start is reported.
    private var status: Int32
    private var pipes: [(descriptor: Int32, stream: String)] = []
    private var runtime: pid_t = -1
    private var container: pid_t?
    private var ended: [pid_t: (code: Int32, signal: Int32)] = [:]

    init(folder: String, log: LogFile, command: [String], status: Int32) {
        self.folder = folder
        self.log = log
        self.command = command
        self.status = status
    }

    mutating func run() -> Never {
        let lock = open(folder + "/monitor.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lock >= 0, cl_try_lock(lock) >= 0 else { failStart("another monitor holds \(folder)") }
        replace("monitor.pid", by: "\(getpid())\n")
        // The container's first process becomes our child when the runtime's process ends.
        _ = cl_become_subreaper()
        let children = cl_child_signal_fd()
        startRuntime()
        while container == nil || ended[container ?? 0] == nil { wait(for: children) }
        drain()
        log.finish()
        let end = ended[container ?? 0] ?? (code: 255, signal: 0)
        replace("exit", by: "\(end.code) \(end.signal)\n")
        exit(0)
    }

    private mutating func startRuntime() {
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        var out: (read: Int32, write: Int32) = (-1, -1)
        var err: (read: Int32, write: Int32) = (-1, -1)
        guard cl_pipe(&out.read, &out.write) >= 0, cl_pipe(&err.read, &err.write) >= 0 else { failStart("no pipes left") }
        var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
        runtime = cl_fork()
        if runtime == 0 { cl_exec(command[0], &arguments, null, out.write, err.write) }
        guard runtime > 0 else { failStart("fork failed") }
        close(out.write)
        close(err.write)
        close(null)
        pipes = [(out.read, "stdout"), (err.read, "stderr")]
        for pipe in pipes { _ = fcntl(pipe.descriptor, F_SETFL, O_NONBLOCK) }
    }

    private mutating func wait(for children: Int32) {
        var polled = pipes.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        polled.append(pollfd(fd: children, events: Int16(POLLIN), revents: 0))
        guard poll(&polled, nfds_t(polled.count), -1) > 0 else { return }
        drain()
        if polled[polled.count - 1].revents != 0 { reap(children) }
    }

    /// Takes what the pipes hold now. A pipe at its end is closed.
    private mutating func drain() {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        var open: [(descriptor: Int32, stream: String)] = []
        for pipe in pipes where isOpen(pipe, &buffer) { open.append(pipe) }
        pipes = open
    }

    private mutating func isOpen(_ pipe: (descriptor: Int32, stream: String), _ buffer: inout [UInt8]) -> Bool {
        while true {
            let count = read(pipe.descriptor, &buffer, buffer.count)
            if count > 0 {
                log.append(buffer[..<count], stream: pipe.stream)
            } else if count == 0 {
                close(pipe.descriptor)
                return false
            } else if errno != EINTR {
                return true
            }
        }
    }

    private mutating func reap(_ children: Int32) {
        cl_drain_signals(children)
        var code: Int32 = 0
        var signal: Int32 = 0
        while true {
            let pid = cl_reap(&code, &signal)
            guard pid > 0 else { return }
            ended[pid] = (code, signal)
            if pid == runtime { runtimeEnded(code: code) }
        }
    }

    private mutating func runtimeEnded(code: Int32) {
        guard code == 0, let pid = Self.readPID(folder + "/container.pid") else {
            drain()
            log.finish()
            failStart(Self.readText(folder + "/runtime.log") ?? "the runtime ended with code \(code)")
        }
        container = pid
        report("started \(pid)\n")
    }

    private mutating func report(_ text: String) {
        guard status >= 0 else { return }
        Output.write(text, to: status)
        close(status)
        status = -1
    }

    private mutating func failStart(_ text: String) -> Never {
        report("failed: \(text)\n")
        exit(1)
    }

    private func replace(_ name: String, by text: String) {
        let path = folder + "/" + name
        let descriptor = open(path + ".staged", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return }
        Output.write(text, to: descriptor)
        close(descriptor)
        rename(path + ".staged", path)
    }

    private static func readPID(_ path: String) -> pid_t? { readText(path).flatMap { pid_t($0.filter(\.isNumber)) } }

    private static func readText(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(descriptor, &buffer, buffer.count)
        guard count > 0 else { return nil }
        return String(decoding: buffer[..<count], as: UTF8.self)
    }
}
