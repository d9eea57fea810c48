import Dispatch

/// Where calls that wait for a disk or a child process run: never on the event loops, never on Swift's own threads,
/// of which there are as many as cores.
package enum Blocking {
    /// Serial queues without work. Each has a thread when it needs one; Dispatch's concurrent queues share as many threads as there are
    /// cores, and notice only every second that these wait.
    private static let idle = Locked<[DispatchQueue]>([])

    package static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        let queue = idle.withLock { $0.popLast() } ?? DispatchQueue(label: "roost.blocking")
        return try await withCheckedThrowingContinuation { continuation in
            queue.async {
                let result = Result { try body() }
                idle.withLock { $0.append(queue) }
                continuation.resume(with: result)
            }
        }
    }
}
