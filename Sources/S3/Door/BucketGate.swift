import Disk

/// Keeps a bucket from being deleted while requests work on it, and requests from beginning while it is deleted.
final class BucketGate: Sendable {
    private struct State {
        var inside: [String: Int] = [:]
        var closed: Set<String> = []
    }

    private let state = Locked(State())

    func enter(_ id: String) throws(S3Error) {
        let isOpen = state.withLock { state in
            guard !state.closed.contains(id) else { return false }
            state.inside[id, default: 0] += 1
            return true
        }
        guard isOpen else { throw S3Error(.operationAborted, "the bucket is being deleted") }
    }

    func leave(_ id: String) {
        state.withLock { state in
            let left = (state.inside[id] ?? 1) - 1
            state.inside[id] = left > 0 ? left : nil
        }
    }

    /// Closes it; throws when somebody is inside or another is closing it. `open` must follow.
    func close(_ id: String) throws(S3Error) {
        let isClosed = state.withLock { state in
            state.inside[id] == nil && state.closed.insert(id).inserted
        }
        guard isClosed else { throw S3Error(.operationAborted, "other requests are working on the bucket: try again") }
    }

    func open(_ id: String) { state.withLock { _ = $0.closed.remove(id) } }
}
