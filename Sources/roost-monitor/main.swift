// roost-monitor FOLDER LOG LOG-BYTES RUNTIME-TOOL [RUNTIME-ARGUMENT...]
//
// Stays with one container, whatever happens to the server: starts it through the OCI runtime, drains its stdout and
// stderr into LOG, and writes FOLDER/exit when it has ended. FOLDER/monitor.lock is held as long as it lives, so that
// a server that comes back can tell. Prints `started PID` or the runtime's complaint, and goes to the background.
//
// Only Glibc is linked: it starts in about a millisecond, and there is one for every worker.

import CLinux
import Glibc

guard CommandLine.arguments.count >= 5, let logLimit = Int(CommandLine.arguments[3]) else {
    Output.fail("usage: roost-monitor FOLDER LOG LOG-BYTES RUNTIME-TOOL [ARGUMENT...]")
}
let folder = CommandLine.arguments[1]

// The caller waits for the first process; the second one is the monitor.
var reportRead: Int32 = -1
var reportWrite: Int32 = -1
guard cl_pipe(&reportRead, &reportWrite) >= 0 else { Output.fail("no pipes left") }
let child = cl_fork()
guard child >= 0 else { Output.fail("fork failed") }
if child > 0 {
    close(reportWrite)
    Output.relay(from: reportRead)
}
close(reportRead)
setsid()
signal(SIGTERM, SIG_IGN)
signal(SIGINT, SIG_IGN)
signal(SIGHUP, SIG_IGN)
signal(SIGPIPE, SIG_IGN)

var monitor = Monitor(
    folder: folder, log: LogFile(path: CommandLine.arguments[2], limit: logLimit),
    command: Array(CommandLine.arguments[4...]), status: reportWrite)
monitor.run()
