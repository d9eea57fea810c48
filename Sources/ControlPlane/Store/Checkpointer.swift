import Dispatch
import GRDB
import Synchronization

/// Moves what the write-ahead log holds into the database file, beside the writer instead of in its way.
///
/// A checkpoint inside a commit makes every job of that commit wait for tens of megabytes and two fsyncs. Here a second
/// connection copies pages while the writer goes on; only when the log has still grown long does the writer pause, for
/// the little that is left, so that the log starts over.
final class Checkpointer: Sendable {
    private struct State {
        var commits = 0
        var isRunning = false
        var isOverdue = false
    }

    /// Commits between two checkpoints.
    private static let interval = 200
    /// Pages of the log (of 4 KiB) after which the writer pauses.
    private static let longestLog = 16_384

    private let connection: DatabaseQueue
    private let queue = DispatchQueue(label: "roost.store.checkpoint")
    private let state = Mutex(State())

    init(path: String) throws {
        var configuration = Configuration()
        configuration.prepareDatabase { try $0.execute(sql: "PRAGMA wal_autocheckpoint = 0") }
        connection = try DatabaseQueue(path: path, configuration: configuration)
    }

    /// Called by the writer after each commit. True when it is to run a restarting checkpoint itself, now.
    func committed() -> Bool {
        let (starts, isOverdue) = state.withLock { state in
            state.commits += 1
            defer { state.isOverdue = false }
            guard state.commits >= Self.interval, !state.isRunning else { return (false, state.isOverdue) }
            state.commits = 0
            state.isRunning = true
            return (true, state.isOverdue)
        }
        if starts { queue.async { self.run() } }
        return isOverdue
    }

    private func run() {
        // A checkpoint that fails loses nothing: the log is read as well as the file, and the next one tries again.
        let pages = try? connection.writeWithoutTransaction { database in
            try Row.fetchOne(database, sql: "PRAGMA wal_checkpoint(PASSIVE)").map { $0[1] as Int }
        }
        state.withLock { state in
            state.isRunning = false
            state.isOverdue = pages.flatMap { $0 }.map { $0 > Self.longestLog } ?? false
        }
    }
}
