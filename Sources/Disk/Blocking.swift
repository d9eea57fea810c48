import Dispatch

/// Where calls that wait for a disk or a child process run: never on the event loops, never on Swift's own threads,
/// of which there are as many as cores.
package enum Blocking {
    private struct State {
        /// Serial queues without work. Each has a thread when it needs one; Dispatch's concurrent queues share as many threads as there are
        /// cores, and notice only every second that these wait.
        var idle: [DispatchQueue] = []
        var queues = 0
        /// What came while all were at work, oldest first.
        var waiting: [@Sendable () -> Void] = []
    }

    /// Half of the threads that Dispatch has at most: the store's writer needs one too.
    private static let most = 128
    private static let state = Locked(State())

    package static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            begin { continuation.resume(with: Result { try body() }) }
        }
    }

    private static func begin(_ work: @escaping @Sendable () -> Void) {
        let queue: DispatchQueue? = state.withLock { state in
            if let idle = state.idle.popLast() { return idle }
            guard state.queues < most else {
                state.waiting.append(work)
                return nil
            }
            state.queues += 1
            return DispatchQueue(label: "roost.blocking")
        }
        guard let queue else { return }
        queue.async { perform(work, on: queue) }
    }

    private static func perform(_ work: @Sendable () -> Void, on queue: DispatchQueue) {
        work()
        let next: (@Sendable () -> Void)? = state.withLock { state in
            if !state.waiting.isEmpty { return state.waiting.removeFirst() }
            state.idle.append(queue)
            return nil
        }
        if let next { queue.async { perform(next, on: queue) } }
    }
}
