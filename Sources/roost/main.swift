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

func start() async { await Roost.main() }
await start()
