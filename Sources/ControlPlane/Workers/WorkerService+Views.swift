import Containers
import Disk
import Resource

/// What others want to know of workers, and what workers report.
extension WorkerService {
    /// The worker a token belongs to, if it is this one.
    package func authenticate(_ id: String, endpoint: String, token: String) -> Bool {
        guard let worker = entries[id]?.worker, worker.endpointID == endpoint else { return false }
        return worker.tokenHash == Hex.sha256(token)
    }

    /// `job-done`: adds to an error what the worker's disks say about it.
    package func report(worker id: String, job: String, body: [UInt8]) async throws {
        var report = WorkerReport(body)
        if let error = report?.error, let hint = diskHint(id, error: error) { report?.error = Self.add(hint, to: error) }
        try await jobs.done(worker: id, job: job, report: report)
    }

    /// Names the full disk behind an ENOSPC.
    private func diskHint(_ id: String, error: [UInt8]) -> String? {
        let text = String(decoding: error, as: UTF8.self)
        let signs = ["No space left on device", "Errno 28", "ENOSPC", "Disk quota exceeded", "Errno 122"]
        guard signs.contains(where: text.contains), let entry = entries[id], let root = runtime.rootPath(entry.container) else {
            return nil
        }
        var full: [String] = []
        if let space = try? Files.space(at: root + "/"), Self.isFull(space) {
            full.append("the container volume is full (limit \(entry.worker.diskBytes >> 30) GB): raise the template's containerDiskInGb")
        }
        if entry.worker.volumeID != nil, let space = try? Files.space(at: root + "/runpod-volume"), Self.isFull(space) {
            full.append("the network volume \(entry.worker.volumeID ?? "") is full: grow it")
        }
        // The handler may have tidied up before it raised.
        return full.isEmpty ? "a disk of the worker was full; it has room again now" : full.joined(separator: "; ")
    }

    private static func isFull(_ space: DiskSpace) -> Bool { space.free < max(space.total / 200, 8 << 20) || space.freeFiles == 0 }

    /// The SDK's errors are JSON objects inside a string: the hint joins their message.
    private static func add(_ hint: String, to error: [UInt8]) -> [UInt8] {
        guard let outer = (try? JSONReader.parse(error))?.string else { return error }
        guard case .object(var members)? = try? JSONReader.parse(outer),
            let index = members.lastIndex(where: { $0.key == "error_message" }), let message = members[index].value.string
        else { return JSON.string("\(outer) [\(hint)]").bytes }
        members[index].value = .string("\(message) [\(hint)]")
        return JSON.string(JSON.object(members).text).bytes
    }

    /// Samples for the scaler.
    func samples(of endpoint: Endpoint, demand: JobService.Demand) -> [ScalingSample.WorkerSample] {
        // Parked ones in the order they were parked: the last is used first.
        let own = entries.values.filter { $0.worker.endpointID == endpoint.id }
        return own.sorted { ($0.worker.parkedAt ?? 0, $0.worker.createdAt) < ($1.worker.parkedAt ?? 0, $1.worker.createdAt) }.map { entry in
            let activity: ScalingSample.WorkerSample.Activity =
                switch entry.lifecycle.phase {
                case .creating, .initializing: entry.worker.isSpare == true ? .sparing : .starting
                case .ready where parking.contains(entry.worker.id): .parked
                case .ready where entry.worker.isSpare == true: .sparing
                case .ready: demand.idleSince[entry.worker.id].map { .idle(since: $0) } ?? .busy
                case .parked: .parked
                case .draining, .stopping, .killed, .gone: .leaving
                }
            return .init(id: entry.worker.id, activity: activity, isOutdated: entry.worker.version != endpoint.version)
        }
    }

    func backoff(of endpoint: String) -> CrashBackoff? { backoffs[endpoint] }

    /// What workers take of each data center.
    func sites() -> [Placement.Site] {
        let free = (try? Files.space(at: layout.root).free) ?? .max
        return catalog.dataCenters.map { center in
            let parked = entries.values.filter { $0.lifecycle.phase == .parked && $0.worker.dataCenterID == center.id }
            let here = entries.values.filter { $0.lifecycle.phase != .parked && $0.worker.dataCenterID == center.id }.map(\.worker)
            var gpus: [String: Int] = [:]
            // A frozen process keeps what it has on a GPU.
            for worker in here + parked.map(\.worker) { if let type = worker.gpuType { gpus[type, default: 0] += worker.gpuCount } }
            return Placement.Site(
                dataCenter: center, usedVcpus: here.reduce(0) { $0 + $1.vcpus },
                usedMemoryBytes: here.reduce(0) { $0 + $1.memoryBytes } + parked.reduce(0) { $0 + $1.parkedBytes }, usedGpus: gpus,
                freeDiskBytes: free - configuration.diskReserveBytes)
        }
    }

    package func mounting(_ volume: String) -> [String] {
        entries.values.filter { $0.worker.volumeID == volume && $0.lifecycle.phase != .gone }.map(\.worker.id).sorted()
    }

    /// Workers of an endpoint as the API shows them.
    package func describe(_ endpoint: Endpoint) async -> [JSON] {
        let demand = await jobs.demand(of: endpoint.id, limit: 0)
        return entries.values.filter { $0.worker.endpointID == endpoint.id }.sorted { $0.worker.createdAt < $1.worker.createdAt }
            .map { describe($0, endpoint: endpoint, demand: demand) }
    }

    package func worker(_ id: String, of endpoint: Endpoint) async throws -> JSON {
        guard let entry = entries[id], entry.worker.endpointID == endpoint.id else {
            throw RoostError(.notFound, "endpoint \(endpoint.id) has no worker \(id.prefix(80))")
        }
        return describe(entry, endpoint: endpoint, demand: await jobs.demand(of: endpoint.id, limit: 0))
    }

    private func describe(_ entry: Entry, endpoint: Endpoint, demand: JobService.Demand) -> JSON {
        let worker = entry.worker
        let state =
            switch entry.lifecycle.phase {
            case .creating, .initializing: "INITIALIZING"
            case .ready: demand.idleSince[worker.id] != nil ? "IDLE" : "RUNNING"
            case .parked: "PARKED"
            case .draining, .stopping, .killed, .gone: "STOPPING"
            }
        let isRunning = worker.startedAt != nil
        return .compact([
            "id": .string(worker.id), "endpointId": .string(worker.endpointID), "status": .string(state),
            "desiredStatus": .string(entry.lifecycle.isLive ? "RUNNING" : "EXITED"), "image": .string(worker.imageName),
            "dataCenterId": .string(worker.dataCenterID), "networkVolumeId": worker.volumeID.map { .string($0) },
            "containerDiskInGb": .int(Int(worker.diskBytes >> 30)), "vcpuCount": .int(worker.vcpus),
            "memoryInGb": .int(Int(worker.memoryBytes >> 30)), "gpuCount": .int(worker.gpuCount),
            "version": .int(worker.version),
            "isStale": .bool(worker.version != endpoint.version || catalog.snapshot.images[worker.imageName]?.id != worker.imageID),
            "imageDigest": .string("sha256:" + worker.imageID),
            "createdAt": .string(Timestamp.text(worker.createdAt)),
            "startedAt": isRunning ? worker.startedAt.map { .string(Timestamp.text($0)) } : nil,
            "readyAt": worker.readyAt.map { .string(Timestamp.text($0)) },
            "lastPingAt": demand.lastPing[worker.id].map { .string(Timestamp.text($0)) },
            "startMs": worker.startedAt.map { .int(Int($0 - worker.createdAt)) },
            "readyMs": worker.readyAt.map { .int(Int($0 - worker.createdAt)) },
            "parkedAt": worker.parkedAt.map { .string(Timestamp.text($0)) }, "start": worker.start?.json,
            "placement": .string(worker.placement), "stopReason": entry.lifecycle.stopReason.map { .string($0) },
        ])
    }

    /// Numbers of `/health`.
    package func numbers(of endpoint: Endpoint) async -> JSON {
        let demand = await jobs.demand(of: endpoint.id, limit: 0)
        let samples = samples(of: endpoint, demand: demand)
        var (idle, starting, running) = (0, 0, 0)
        for sample in samples {
            switch sample.activity {
            case .starting, .sparing: starting += 1
            case .parked: break
            case .idle: idle += 1
            case .busy: running += 1
            case .leaving: break
            }
        }
        let failures = backoffs[endpoint.id]?.failures ?? 0
        return [
            "idle": .int(idle), "initializing": .int(starting), "ready": .int(idle), "running": .int(running),
            "throttled": 0, "unhealthy": .int(failures > 0 ? 1 : 0),
        ]
    }

    /// The log of a worker, also after its end.
    package nonisolated func log(of id: String, endpoint: String) throws(RoostError) -> WorkerLog {
        guard Identifier.isSafe(id), Identifier.isSafe(endpoint) else { throw RoostError(.notFound, "there is no such worker") }
        let log = WorkerLog(path: layout.log(endpoint: endpoint, worker: id))
        guard log.exists else { throw RoostError(.notFound, "endpoint \(endpoint) has no log of a worker \(id)") }
        return log
    }

    package func isKnown(_ id: String) -> Bool { entries[id] != nil }
}
