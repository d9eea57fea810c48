import Resource

/// The last starts of each endpoint, and which of them are not in the store yet.
struct StartLog: Sendable {
    /// Oldest first.
    private var kept: [String: [StartRecord]] = [:]
    private var unsaved: [String: [StartRecord]] = [:]

    init() {}

    /// `stored` are the records of endpoints, oldest first.
    init(_ stored: [String: [StartRecord]]) { kept = stored }

    var hasUnsaved: Bool { !unsaved.isEmpty }

    subscript(endpoint: String) -> [StartRecord] { kept[endpoint] ?? [] }

    /// Keeps one record a start: a later step replaces what an earlier one left.
    mutating func keep(_ start: StartRecord, of endpoint: String) {
        Self.put(start, into: &kept[endpoint, default: []])
        kept[endpoint] = kept[endpoint]?.suffix(Limits.keptStarts)
        Self.put(start, into: &unsaved[endpoint, default: []])
    }

    private static func put(_ start: StartRecord, into list: inout [StartRecord]) {
        if let last = list.lastIndex(where: { $0.isSameStart(as: start) }) { list[last] = start } else { list.append(start) }
    }

    mutating func takeUnsaved() -> [String: [StartRecord]] {
        defer { unsaved = [:] }
        return unsaved
    }

    mutating func forget(_ endpoint: String) { (kept[endpoint], unsaved[endpoint]) = (nil, nil) }

    /// The kept starts of a worker, oldest first, and its endpoint.
    func starts(of worker: String) -> (endpoint: String, starts: [StartRecord])? {
        for (endpoint, list) in kept {
            let own = list.filter { $0.workerID == worker }
            if !own.isEmpty { return (endpoint, own) }
        }
        return nil
    }
}
