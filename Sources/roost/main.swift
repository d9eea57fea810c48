import ArgumentParser
import Disk
import Glibc

// A mount namespace belongs to a thread until other threads copy it: the server enters its own before there are any.
let mounting = ["serve", "bench-disk"]
if let command = CommandLine.arguments.dropFirst().first, mounting.contains(command), !CommandLine.arguments.contains("--help") {
    do { try Mount.enterPrivateNamespace() } catch {
        // `serve` examines the machine and says what to do; this only names the first obstacle.
        Terminal.error("cannot enter a private mount namespace: \(error)")
    }
}
signal(SIGPIPE, SIG_IGN)

// A connection and what it reads are descriptors each; the usual soft limit of 1,024 is from another time.
var files = rlimit()
if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files) == 0 {
    files.rlim_cur = min(files.rlim_max, 65_536)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
}

func start() async { await Roost.main() }
await start()
