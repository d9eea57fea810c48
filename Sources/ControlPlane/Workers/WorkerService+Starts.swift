import Resource

/// How starts went: noted step by step, kept over restarts of the server.
extension WorkerService {
    /// Until noted steps are written. A server that is killed loses no more than this of them.
    private static let startsDelay: Duration = .seconds(1)

    func mark(_ step: StartRecord.Step, of id: String, at time: ContinuousClock.Instant = .now) {
        guard var entry = entries[id], var start = entry.worker.start else { return }
        start.mark(step, entry.decidedAt.duration(to: time) / .milliseconds(1))
        entry.worker.start = start
        entries[id] = entry
        guard start.ready != nil, catalog.endpoint(entry.worker.endpointID) != nil else { return }
        let isWaiting = starts.hasUnsaved
        starts.keep(start, of: entry.worker.endpointID)
        if !isWaiting { order(.saveStarts) }
    }

    /// Writes what was noted, after a moment in which more may come.
    func saveStartsSoon() async {
        // Cut short, the rest is written by `stopAll`.
        guard (try? await Task.sleep(for: Self.startsDelay)) != nil else { return }
        await saveStarts()
    }

    func saveStarts() async {
        let unsaved = starts.takeUnsaved()
        guard !unsaved.isEmpty else { return }
        do { try await store.save(starts: unsaved) } catch {
            log.error("failed to record starts", metadata: ["error": "\(error)"])
        }
    }

    /// Reads what was kept; nothing is kept of endpoints that are no more.
    func restoreStarts() async throws {
        let stored = try await store.starts()
        let known = Set(catalog.snapshot.endpoints.keys)
        for endpoint in stored.keys where !known.contains(endpoint) { try await store.removeStarts(of: endpoint) }
        starts = StartLog(stored.filter { known.contains($0.key) })
        try await warmPages.restore(endpoints: known)
    }

    /// How the starts of an endpoint went: percentiles for each kind, and the last of them.
    package func starts(of endpoint: Endpoint) -> JSON {
        let list = starts[endpoint.id]
        var members: [JSON.Member] = StartRecord.Kind.allCases.map { kind in
            .init(kind.rawValue, StartRecord.percentiles(list.filter { $0.kind == kind }.compactMap(\.ready)))
        }
        members.append(.init("recent", .array(list.suffix(20).reversed().map(\.json))))
        return .object(members)
    }

    /// The kept starts of a worker, the last one first, also when it is gone.
    package func starts(ofWorker id: String) throws(RoostError) -> JSON {
        let kept = starts.starts(of: id)
        guard let endpoint = kept?.endpoint ?? entries[id]?.worker.endpointID else {
            throw RoostError(.notFound, "there is no start of a worker \(id.prefix(80))")
        }
        var list = kept?.starts ?? []
        // One that is not ready yet is not kept yet.
        if let present = entries[id]?.worker.start, list.last?.isSameStart(as: present) != true { list.append(present) }
        return ["endpointId": .string(endpoint), "workerId": .string(id), "starts": .array(list.reversed().map(\.json))]
    }

    /// An endpoint was deleted: its workers go, and what was kept of their starts.
    package func removeAll(of endpoint: String) async throws {
        condemnAll(of: endpoint, reason: "its endpoint was deleted")
        // Left behind, it is removed when the server starts.
        _ = try? await warmPages.forget(endpoint)
        starts.forget(endpoint)
        try await store.removeStarts(of: endpoint)
    }
}
