import Disk
import Logging
import Resource

/// Runs syncs: once, by the clock, or after jobs. What ran when the server ended starts again and goes on.
package actor SyncService {
    private let places: ObjectPlaces
    private let store: any Store
    /// Endpoints of which a job completed.
    private let completed: Wakeups
    private let now: @Sendable () -> Milliseconds
    private let log: Logger
    private var syncs: [String: StoreSync] = [:]
    private var tasks: [String: Task<Void, Never>] = [:]
    /// Ran when something asked for another run.
    private var again: Set<String> = []
    private let changed = Wakeups()

    /// How long one that ran once and is over can be looked at.
    private static let retention: Milliseconds = 7 * 86_400_000

    package init(places: ObjectPlaces, store: any Store, completed: Wakeups, now: @escaping @Sendable () -> Milliseconds, log: Logger) {
        (self.places, self.store, self.completed, self.now, self.log) = (places, store, completed, now, log)
    }

    func restore() async throws {
        for var sync in try await store.documents(.sync, as: StoreSync.self) {
            if sync.state == .running { (sync.state, sync.startedAt) = (.waiting, nil) }
            syncs[sync.id] = sync
            if sync.afterEndpointId != nil, sync.startedAt == nil, sync.runs > 0 { again.insert(sync.id) }
        }
    }

    // MARK: - Requests

    package var all: [StoreSync] { syncs.values.sorted { $0.createdAt < $1.createdAt } }

    package func sync(_ id: String) throws(RoostError) -> StoreSync {
        guard let sync = syncs[id] else { throw RoostError(.notFound, "there is no sync \(id.prefix(80))") }
        return sync
    }

    package func create(_ body: JSON) async throws -> StoreSync {
        let values = try FieldValues(body, fields: StoreSync.fields, isUpdate: false)
        let sync = StoreSync(id: Identifier.make(length: Limits.shortIDLength), values: values, at: now())
        let (source, target) = (try side(sync.source, "source"), try side(sync.target, "target"))
        guard source.place.name != target.place.name || !Self.overlap(source.prefix, target.prefix) else {
            throw RoostError(.invalid, "field 'target': it lies in the source, or the source in it")
        }
        if let endpoint = sync.afterEndpointId, places.catalog.endpoint(endpoint) == nil {
            throw RoostError(.invalid, "field 'afterEndpointId': there is no endpoint \(endpoint.prefix(80))")
        }
        syncs[sync.id] = sync
        do { try await store.save(sync, kind: .sync, id: sync.id) } catch {
            syncs[sync.id] = nil
            throw error
        }
        changed.signal(sync.id)
        return sync
    }

    private static func overlap(_ one: String, _ other: String) -> Bool {
        let (first, second) = (one + "/", other + "/")
        return one.isEmpty || other.isEmpty || first.hasPrefix(second) || second.hasPrefix(first)
    }

    /// Stops it and forgets it. What it copied stays; uploads that it had begun are given up.
    package func delete(_ id: String) async throws {
        let sync = try sync(id)
        syncs[id] = nil
        let task = tasks.removeValue(forKey: id)
        task?.cancel()
        await task?.value
        if let target = try? side(sync.target, "target") {
            for (key, upload) in sync.uploads { try? await target.place.client.abortUpload(target.place.bucket, key, upload: upload) }
        }
        try await store.remove(.sync, id: id)
    }

    /// `volume:ID/path` or `store:NAME/path`.
    private func side(_ text: String, _ field: String) throws -> SyncRun.Side {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = parts.first.flatMap({ ObjectPlace.Name(String($0)) }) else {
            throw RoostError(.invalid, "field '\(field)': got '\(text.prefix(80))'; allowed: volume:ID[/path] or store:NAME[/path]")
        }
        var place: ObjectPlace
        do { place = try places.place(name) } catch let error as RoostError where error.code == .notFound {
            throw RoostError(.invalid, "field '\(field)': \(error.message)")
        }
        // What is copied is checked by what every store knows.
        if case .store = name { place.client.integrity = .md5 }
        return SyncRun.Side(place: place, prefix: place.prefix + (parts.count > 1 ? String(parts[1]) : ""))
    }

    // MARK: - Running

    package func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { while !Task.isCancelled { await self.jobsCompleted(await self.completed.next()) } }
            while !Task.isCancelled {
                let next = await startDue()
                let (changed, pause) = (changed, max(1, min(next - now(), 3_600_000)))
                let timer = Task {
                    if (try? await Task.sleep(for: .milliseconds(pause))) != nil { changed.signal("") }
                }
                _ = await changed.next()
                timer.cancel()
            }
        }
        for task in tasks.values { task.cancel() }
    }

    private func jobsCompleted(_ endpoints: Set<String>) {
        for sync in syncs.values where sync.afterEndpointId.map(endpoints.contains) ?? false { request(sync.id) }
    }

    private func request(_ id: String) {
        again.insert(id)
        changed.signal(id)
    }

    /// Starts what is due; returns when to look again.
    private func startDue() async -> Milliseconds {
        var next = now() + 3_600_000
        for sync in syncs.values where tasks[sync.id] == nil {
            if again.remove(sync.id) != nil || sync.nextRun.map({ $0 <= now() }) ?? false {
                begin(sync.id)
            } else if let time = sync.nextRun {
                next = min(next, time)
            } else if !sync.repeats, let ended = sync.endedAt, ended + Self.retention < now() {
                syncs[sync.id] = nil
                try? await store.remove(.sync, id: sync.id)
            }
        }
        return next
    }

    private func begin(_ id: String) {
        guard var sync = syncs[id] else { return }
        (sync.state, sync.startedAt, sync.endedAt, sync.errors) = (.running, now(), nil, [])
        sync.runs += 1
        sync.progress = StoreSync.Progress()
        syncs[id] = sync
        tasks[id] = Task { await self.perform(sync) }
    }

    private func perform(_ sync: StoreSync) async {
        do {
            try await store.save(sync, kind: .sync, id: sync.id)
            let (source, target) = (try side(sync.source, "source"), try side(sync.target, "target"))
            let (events, telling) = AsyncStream<SyncRun.Event>.makeStream()
            let listening = Task { for await event in events { await self.note(event, sync.id) } }
            let run = SyncRun(source: source, target: target, uploads: sync.uploads) { telling.yield($0) }
            var failure: String?
            do { try await run.run() } catch {
                failure = "\(places.explain(error, error is CancellationError ? source.place : target.place))"
            }
            telling.finish()
            await listening.value
            await end(sync.id, failure: failure)
        } catch { await end(sync.id, failure: "\(error)") }
    }

    private func note(_ event: SyncRun.Event, _ id: String) async {
        guard var sync = syncs[id] else { return }
        var isLasting = false
        switch event {
        case .found(let files, let bytes): (sync.progress.files, sync.progress.bytes) = (files, bytes)
        case .copied: sync.progress.copiedFiles += 1
        case .moved(let bytes): sync.progress.copiedBytes += bytes
        case .unchanged: sync.progress.unchangedFiles += 1
        case .failed(let text):
            sync.progress.failedFiles += 1
            if sync.errors.count < 10 { sync.errors.append(text) }
        case .began(let key, let upload):
            sync.uploads[key] = upload
            isLasting = true
        }
        syncs[id] = sync
        // Should the server end now, the next run must find the upload again.
        if isLasting { try? await store.save(sync, kind: .sync, id: id) }
    }

    private func end(_ id: String, failure: String?) async {
        tasks[id] = nil
        guard var sync = syncs[id], !Task.isCancelled else { return }
        if let failure { sync.errors.insert(failure, at: 0) }
        let isWhole = failure == nil && sync.progress.failedFiles == 0
        (sync.state, sync.endedAt) = (isWhole ? .completed : .failed, now())
        if isWhole { sync.uploads = [:] }
        syncs[id] = sync
        log.info(
            "sync ended",
            metadata: [
                "sync_id": "\(id)", "status": "\(sync.state.rawValue)", "copied": "\(sync.progress.copiedFiles)",
                "unchanged": "\(sync.progress.unchangedFiles)", "failed": "\(sync.progress.failedFiles)",
            ])
        do { try await store.save(sync, kind: .sync, id: id) } catch {
            log.error("failed to record a sync", metadata: ["sync_id": "\(id)", "error": "\(error)"])
        }
        changed.signal(id)
    }
}
