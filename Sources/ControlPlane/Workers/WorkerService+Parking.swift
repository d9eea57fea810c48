import Containers
import Disk
import Resource

/// FlashBoot: workers that are frozen instead of stopped, and thawed for the next job.
extension WorkerService {
    /// Until a thawed worker must have asked for a job.
    private static let thawPatience: Milliseconds = 5_000

    // MARK: - Parking

    /// Freezes an idle worker, unless it gets a job meanwhile.
    func park(_ id: String) async {
        guard entries[id]?.lifecycle.phase == .ready, parking.insert(id).inserted else { return }
        defer {
            parking.remove(id)
            if let endpoint = entries[id]?.worker.endpointID { demand.signal(endpoint) }
        }
        guard await jobs.beginParking(id) else {
            // A spare that got a job at once is a spare no more.
            entries[id]?.worker.isSpare = nil
            return
        }
        let isSpare = entries[id]?.worker.isSpare == true
        do {
            try await Blocking.run {
                try Freezer.freeze(id)
                if isSpare { Freezer.reclaim(id) }
            }
        } catch {
            log.error("failed to park a worker", metadata: ["worker_id": "\(id)", "error": "\(error)"])
            await jobs.unpark(id)
            return await drain(id, reason: "it could not be parked: \(error)")
        }
        guard var entry = entries[id], entry.lifecycle.parked() else {
            // It was told to go while it was being frozen.
            try? Freezer.thaw(id)
            return await jobs.unpark(id)
        }
        entry.worker.parkedAt = now()
        entry.parkedBytes = Freezer.memoryBytes(id)
        entries[id] = entry
        log.info("worker parked", metadata: ["worker_id": "\(id)", "memory_mib": "\(entry.parkedBytes >> 20)"])
        do { try await store.save(entry.worker, kind: .worker, id: id) } catch {
            log.error("failed to record a worker", metadata: ["worker_id": "\(id)", "error": "\(error)"])
        }
        trimParked()
    }

    // MARK: - Thawing

    /// Lets a parked worker go on. False where it cannot: then it is destroyed, and no job was given to it.
    func thaw(_ id: String, waitedSince: Milliseconds?) async -> Bool {
        // Parking looks at the queue once more before it freezes, and the scaler is asked again after it.
        guard !parking.contains(id) else { return true }
        guard var entry = entries[id], hasRoom(for: entry), entry.lifecycle.thawed() else { return false }
        entry.decidedAt = .now
        entry.worker.start = StartRecord(
            kind: entry.worker.isSpare == true ? .spare : .thawed, workerID: id, at: now(),
            queuedMilliseconds: waitedSince.map { max(0, now() - $0) } ?? 0)
        (entry.worker.parkedAt, entry.worker.isSpare, entry.parkedBytes, entry.isReclaimed) = (nil, nil, 0, false)
        entries[id] = entry
        do { try Freezer.thaw(id) } catch {
            breakDown(id, reason: "it could not be thawed: \(error)")
            return false
        }
        mark(.thawed, of: id)
        await jobs.unpark(id, isStart: true)
        order(.thawCheck(id, since: now()))
        // The record may follow: at a restart the freezer itself is asked.
        let worker = entry.worker
        Task { try? await store.save(worker, kind: .worker, id: id) }
        return true
    }

    /// Whether its data center can hold it running: others may have taken its place while it was parked.
    private func hasRoom(for entry: Entry) -> Bool {
        guard let site = sites().first(where: { $0.dataCenter.id == entry.worker.dataCenterID }) else { return false }
        return site.usedVcpus + entry.worker.vcpus <= site.dataCenter.vcpus
            && site.usedMemoryBytes - entry.parkedBytes + entry.worker.memoryBytes <= site.dataCenter.memoryBytes
    }

    /// A worker that does not ask for a job after its thaw is of no use.
    func checkThaw(_ id: String, since: Milliseconds) async {
        guard (try? await Task.sleep(for: .milliseconds(Self.thawPatience))) != nil else { return }
        guard let entry = entries[id], entry.lifecycle.phase == .ready, !parking.contains(id), entry.worker.start?.at ?? 0 <= since,
            entry.worker.start?[.firstJob] == nil, await !jobs.hasPoll(id)
        else { return }
        breakDown(id, reason: "it did not ask for a job within \(Self.thawPatience / 1_000) s after it was thawed")
    }

    // MARK: - Bounds

    private var parkedByUse: [Entry] {
        entries.values.filter { $0.lifecycle.phase == .parked }.sorted { $0.worker.parkedAt ?? 0 < $1.worker.parkedAt ?? 0 }
    }

    /// Whether another spare may be started.
    func hasRoomToPark(_ endpoint: Endpoint) -> Bool {
        let parked = parkedByUse
        let onTheirWay = entries.values.filter { $0.worker.isSpare == true && $0.lifecycle.phase != .parked }.count
        let typical = parked.filter { $0.worker.endpointID == endpoint.id }.map(\.parkedBytes).max() ?? 0
        // Started while memory is short, it would be the first to go again.
        return !isShortOfMemory && parked.count + onTheirWay < configuration.parkedWorkers
            && parked.reduce(0) { $0 + $1.parkedBytes } + Int64(onTheirWay + 1) * typical <= configuration.parkedBytes
    }

    /// Destroys the least recently used parked workers above the bounds.
    private func trimParked() {
        var parked = parkedByUse
        while let oldest = parked.first,
            parked.count > configuration.parkedWorkers || parked.reduce(0, { $0 + $1.parkedBytes }) > configuration.parkedBytes
        {
            condemn(oldest.worker.id, reason: "parked longest, and parked workers are over their bounds")
            parked.removeFirst()
        }
    }

    /// Destroys the least recently used parked worker that leaves what is needed. False when there is none.
    func evictParked(for shortages: [Placement.Shortage]) -> Bool {
        let useful = parkedByUse.first { entry in shortages.contains { $0.isHelped(by: entry.worker) } }
        guard let useful else { return false }
        condemn(useful.worker.id, reason: "parked longest, and its place was needed")
        return true
    }

    private var isShortOfMemory: Bool { Machine.availableMemoryBytes < configuration.memoryReserveBytes }

    /// Gives memory back while the machine runs short of it, of the least recently used parked workers first: what they can do without,
    /// then one of them.
    package func relieve() async {
        for entry in parkedByUse where !entry.isReclaimed {
            guard isShortOfMemory else { return }
            let id = entry.worker.id
            // It throws nothing: there is no more to it than trying.
            try? await Blocking.run { Freezer.reclaim(id) }
            guard entries[id]?.lifecycle.phase == .parked else { continue }
            entries[id]?.isReclaimed = true
            entries[id]?.parkedBytes = Freezer.memoryBytes(id)
        }
        guard isShortOfMemory, let oldest = parkedByUse.first else { return }
        condemn(oldest.worker.id, reason: "parked longest, and the machine runs short of memory")
    }
}
