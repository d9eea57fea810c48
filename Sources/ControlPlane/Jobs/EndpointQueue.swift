import DequeModule
import Resource

/// The queued jobs of one endpoint: normal ones first, each class in the order it came; jobs that come back go first.
///
/// Removal is lazy: an entry counts only while its job is queued since the same moment.
struct EndpointQueue {
    struct Entry {
        var id: String
        var since: Milliseconds
    }

    private var normal = Deque<Entry>()
    private var low = Deque<Entry>()
    /// Queued jobs that may start workers, and those that may not.
    private(set) var normalCount = 0
    private(set) var lowCount = 0
    var running = 0
    /// Workers with a parked poll, longest parked first.
    private(set) var takers = Deque<String>()
    /// Why its jobs wait, as the scaler last saw it.
    var waitReason: String?

    var count: Int { normalCount + lowCount }

    /// A worker parked a poll. It may be listed from an earlier poll that was answered without a job.
    mutating func addTaker(_ worker: String) {
        if !takers.contains(worker) { takers.append(worker) }
    }

    mutating func popTaker() -> String? { takers.popFirst() }

    mutating func append(_ id: String, since: Milliseconds, isLow: Bool, atFront: Bool = false) {
        let entry = Entry(id: id, since: since)
        if isLow {
            if atFront { low.prepend(entry) } else { low.append(entry) }
            lowCount += 1
        } else {
            if atFront { normal.prepend(entry) } else { normal.append(entry) }
            normalCount += 1
        }
    }

    /// A job left the queue by another way than `next`.
    mutating func forget(isLow: Bool) {
        if isLow { lowCount -= 1 } else { normalCount -= 1 }
    }

    /// The next entry that `isQueued` still knows.
    mutating func next(_ isQueued: (Entry) -> Bool) -> Entry? {
        while let entry = normal.popFirst() {
            if isQueued(entry) {
                normalCount -= 1
                return entry
            }
        }
        while let entry = low.popFirst() {
            if isQueued(entry) {
                lowCount -= 1
                return entry
            }
        }
        return nil
    }

    /// Since when the first few normal jobs wait.
    func waitingSince(limit: Int, _ isQueued: (Entry) -> Bool) -> [Milliseconds] {
        var times: [Milliseconds] = []
        for entry in normal {
            if times.count >= limit { break }
            if isQueued(entry) { times.append(entry.since) }
        }
        return times
    }
}
