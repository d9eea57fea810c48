import Dispatch
import GRDB
import Synchronization

/// One writer for many callers: whatever waits when a transaction can begin goes into it, and its one fsync makes all
/// of it durable. Operations run in the order `write` was called; one that fails takes only itself back.
final class GroupCommit: Sendable {
    private struct Operation: Sendable {
        var body: @Sendable (Database) throws -> Void
        var completion: @Sendable ((any Error)?) -> Void
    }

    private struct State {
        var waiting: [Operation] = []
        var isRunning = false
    }

    private let pool: DatabasePool
    private let checkpointer: Checkpointer
    private let queue = DispatchQueue(label: "roost.store.writer")
    private let state = Mutex(State())

    init(_ pool: DatabasePool, checkpointer: Checkpointer) {
        self.pool = pool
        self.checkpointer = checkpointer
    }

    /// Runs `body` in the next transaction and returns once it is committed.
    nonisolated(nonsending) func write(_ body: @escaping @Sendable (Database) throws -> Void) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            enqueue(
                Operation(body: body) { error in
                    if let error { continuation.resume(throwing: error) } else { continuation.resume() }
                })
        }
    }

    private func enqueue(_ operation: Operation) {
        let starts = state.withLock { state in
            state.waiting.append(operation)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if starts { queue.async { self.drain() } }
    }

    private func drain() {
        while true {
            let batch: [Operation] = state.withLock { state in
                defer { state.waiting = [] }
                if state.waiting.isEmpty { state.isRunning = false }
                return state.waiting
            }
            if batch.isEmpty { return }
            commit(batch)
        }
    }

    private func commit(_ batch: [Operation]) {
        var failures: [(any Error)?] = Array(repeating: nil, count: batch.count)
        do {
            try pool.writeWithoutTransaction { database in
                try database.inTransaction(.immediate) {
                    for (index, operation) in batch.enumerated() {
                        do {
                            try database.inSavepoint {
                                try operation.body(database)
                                return .commit
                            }
                        } catch {
                            // A full disk undoes the whole transaction, not this operation alone.
                            guard database.isInsideTransaction else { throw error }
                            failures[index] = error
                        }
                    }
                    return .commit
                }
            }
        } catch {
            for operation in batch { operation.completion(error) }
            return
        }
        for (operation, failure) in zip(batch, failures) { operation.completion(failure) }
        // As in `Checkpointer.run`: when it fails, the next one tries again.
        if checkpointer.committed() { _ = try? pool.writeWithoutTransaction { try $0.checkpoint(.restart) } }
    }
}
