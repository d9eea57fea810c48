import Dispatch

/// Where calls that wait for a disk or a child process run: never on the event loops, never on Swift's own threads,
/// of which there are as many as cores.
package enum Blocking {
    private static let queue = DispatchQueue(label: "roost.blocking", attributes: .concurrent)

    package static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result { try body() }) }
        }
    }
}
