import Disk
import Logging
import Resource

/// Makes, grows and removes network volumes: the record comes first, then the disk.
package actor VolumeService {
    private let catalog: Catalog
    private let disks: VolumeStore
    private let store: any Store
    private let log: Logger
    /// Mounts under way: two workers that start at once must not mount a volume twice.
    private var opening: [String: Task<VolumeStore.Opened, any Error>] = [:]

    package init(catalog: Catalog, disks: VolumeStore, store: any Store, log: Logger) {
        self.catalog = catalog
        self.disks = disks
        self.store = store
        self.log = log
    }

    /// Finishes what a crash cut short and mounts every volume. A volume that cannot be mounted stays as it is, and
    /// whoever needs it gets the error.
    package func restore() async throws {
        for volume in catalog.snapshot.volumes.values.sorted(by: { $0.id < $1.id }) {
            do {
                switch volume.state {
                case .creating: try await make(volume)
                case .ready: _ = try await disks.open(volume)
                case .deleting: try await unmake(volume)
                }
            } catch {
                log.error("failed to restore a volume", metadata: ["volume_id": "\(volume.id)", "error": "\(error)"])
            }
        }
        for file in try disks.strangers(known: Set(catalog.snapshot.volumes.keys)) {
            log.warning("a volume file belongs to no volume; it is left alone", metadata: ["path": "\(file)"])
        }
    }

    package func create(_ body: JSON) async throws -> NetworkVolume {
        let values = try FieldValues(body, fields: NetworkVolume.fields(minimumSize: catalog.minimumVolumeGb), isUpdate: false)
        let center = values.string("dataCenterId") ?? ""
        guard catalog.dataCenters.contains(where: { $0.id == center }) else {
            let known = catalog.dataCenters.map(\.id).joined(separator: ", ")
            throw RoostError(.invalid, "field 'dataCenterId': there is no data center \(center.prefix(64)); allowed: \(known)")
        }
        return try await create(name: values.string("name") ?? "", size: values.int("size") ?? 0, dataCenterId: center, isBucket: nil)
    }

    /// Makes a volume from checked values.
    package func create(name: String, size: Int, dataCenterId: String, isBucket: Bool?) async throws -> NetworkVolume {
        var volume = NetworkVolume(
            id: Identifier.make(length: Limits.shortIDLength), name: name, size: size, dataCenterId: dataCenterId, createdAt: catalog.now())
        volume.isBucket = isBucket
        try await save(volume)
        do { return try await make(volume) } catch {
            // Nothing of it was promised to anybody: take the record back too.
            try await unmake(volume)
            throw Self.mapped(error, volume)
        }
    }

    package func update(_ id: String, _ body: JSON) async throws -> NetworkVolume {
        let old = try existing(id)
        let values = try FieldValues(body, fields: NetworkVolume.fields(minimumSize: 1), isUpdate: true)
        var volume = old
        if let name = values.string("name") { volume.name = name }
        if let size = values.int("size") {
            guard size >= old.size else {
                throw RoostError(
                    .invalid, "field 'size': got \(size); a volume only grows: allowed \(old.size) to \(NetworkVolume.maximumSize)")
            }
            volume.size = size
        }
        if volume.size > old.size {
            guard old.state == .ready else { throw RoostError(.conflict, "volume \(id) is \(old.state.rawValue)") }
            do { try await disks.grow(volume) } catch { throw Self.mapped(error, volume) }
        }
        try await save(volume)
        return volume
    }

    /// Refused while an endpoint names it or a worker has it mounted.
    package func delete(_ id: String, mountedBy workers: [String]) async throws {
        var volume = try existing(id)
        let users = catalog.snapshot.endpoints.values.filter { $0.networkVolumeIds.contains(id) }.map(\.id).sorted()
        guard users.isEmpty else {
            throw RoostError(.conflict, "network volume \(id) is used by endpoint \(users.joined(separator: ", "))")
        }
        guard workers.isEmpty else {
            throw RoostError(.conflict, "network volume \(id) is mounted by worker \(workers.joined(separator: ", "))")
        }
        volume.state = .deleting
        try await save(volume)
        try await unmake(volume)
    }

    /// Where a volume is mounted, if it is: nothing is mounted or waited for.
    package nonisolated func paths(of volume: NetworkVolume) -> VolumeStore.Opened { disks.paths(of: volume) }

    package nonisolated func existing(_ id: String) throws(RoostError) -> NetworkVolume {
        guard let volume = catalog.snapshot.volumes[id], volume.state != .deleting else {
            throw RoostError(.notFound, "there is no network volume \(id.prefix(80))")
        }
        return volume
    }

    /// The volume with what is on it and who has it.
    package nonisolated func describe(_ volume: NetworkVolume, mountedBy workers: [String]) -> JSON {
        guard case .object(var members) = volume.json else { return .null }
        if volume.state == .ready, let space = try? disks.space(of: volume) {
            members.append(.init("usedBytes", .int(Int(space.used))))
            members.append(.init("availableBytes", .int(Int(space.free))))
            members.append(.init("totalBytes", .int(Int(space.total))))
        }
        let endpoints = catalog.snapshot.endpoints.values.filter { $0.networkVolumeIds.contains(volume.id) }
        members.append(.init("endpointIds", .strings(endpoints.map(\.id).sorted())))
        members.append(.init("mountedBy", .strings(workers.sorted())))
        return .object(members)
    }

    /// Where a volume is mounted; mounts it first when it is not.
    package func open(_ id: String) async throws -> VolumeStore.Opened {
        let volume = try existing(id)
        guard volume.state == .ready else { throw RoostError(.unavailable, "network volume \(id) is \(volume.state.rawValue)") }
        let task = opening[id] ?? Task { [disks] in try await disks.open(volume) }
        opening[id] = task
        defer { opening[id] = nil }
        do { return try await task.value } catch { throw Self.mapped(error, volume) }
    }

    @discardableResult
    private func make(_ volume: NetworkVolume) async throws -> NetworkVolume {
        try await disks.create(volume)
        var ready = volume
        ready.state = .ready
        try await save(ready)
        return ready
    }

    private func unmake(_ volume: NetworkVolume) async throws {
        try await disks.remove(volume)
        try await catalog.forget(volume)
    }

    private func save(_ volume: NetworkVolume) async throws { try await catalog.save(volume) }

    private static func mapped(_ error: any Error, _ volume: NetworkVolume) -> any Error {
        guard let error = error as? DiskError else { return error }
        guard error.isNoSpace else { return error.roostError }
        return RoostError(
            .noSpace, "data center \(volume.dataCenterId) has no room for \(volume.size) GB: free space, or choose a smaller size")
    }
}

extension Catalog {
    func save(_ volume: NetworkVolume) async throws {
        try await change(\.volumes, key: volume.id, to: volume) { try await store.save(volume, kind: .volume, id: volume.id) }
    }

    func forget(_ volume: NetworkVolume) async throws {
        try await change(\.volumes, key: volume.id, to: nil) { try await store.remove(.volume, id: volume.id) }
    }
}
