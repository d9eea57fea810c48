import Synchronization

/// A set of names that want attention, and one who gives it: many signals of one name become one.
package final class Wakeups: Sendable {
    private struct State {
        var names: Set<String> = []
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    package init() {}

    package func signal(_ name: String) {
        let waiter = state.withLock { state in
            state.names.insert(name)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    /// The names signalled since the last call; waits until there is one or the task is cancelled.
    package func next() async -> Set<String> {
        await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let isDue = state.withLock { state in
                    if !state.names.isEmpty || Task.isCancelled { return true }
                    state.waiter = continuation
                    return false
                }
                if isDue { continuation.resume() }
            }
        } onCancel: {
            state.withLock { state in
                defer { state.waiter = nil }
                return state.waiter
            }?.resume()
        }
        return state.withLock { state in
            defer { state.names = [] }
            return state.names
        }
    }
}
