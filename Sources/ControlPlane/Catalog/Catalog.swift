import Containers
import Disk
import Resource

/// Endpoints, templates, volumes, keys and images: rules about them, and a copy in memory for every request to read.
///
/// A change is made in memory first, so that two changes at once cannot both pass a check; it is undone when the store
/// refuses it.
package actor Catalog {
    package struct Snapshot: Sendable {
        package var endpoints: [String: Endpoint] = [:]
        package var templates: [String: Template] = [:]
        package var volumes: [String: NetworkVolume] = [:]
        /// By hash.
        package var keys: [String: APIKey] = [:]
        /// By access key id.
        package var s3Keys: [String: S3Key] = [:]
        /// By name.
        package var objectStores: [String: ObjectStore] = [:]
        /// By id.
        package var registryAuths: [String: RegistryAuth] = [:]
        /// By name.
        package var images: [String: Image] = [:]
    }

    package nonisolated let dataCenters: [DataCenter]
    nonisolated let minimumVolumeGb: Int
    nonisolated let guardian: NetworkGuard
    private nonisolated let state: Locked<Snapshot>
    /// Ids of the images that workers run from.
    nonisolated let running = Locked<Set<String>>([])
    let store: any Store
    nonisolated let secrets: SecretBox
    nonisolated let now: @Sendable () -> Milliseconds
    /// Endpoints whose settings changed.
    let demand: Wakeups

    package init(
        store: any Store, configuration: ServerConfiguration, secrets: SecretBox, guardian: NetworkGuard, demand: Wakeups,
        now: @escaping @Sendable () -> Milliseconds
    ) async throws {
        self.store = store
        self.now = now
        self.secrets = secrets
        self.demand = demand
        dataCenters = configuration.dataCenters
        minimumVolumeGb = configuration.minimumVolumeGb
        self.guardian = guardian
        var snapshot = Snapshot()
        for value in try await store.documents(.endpoint, as: Endpoint.self) { snapshot.endpoints[value.id] = value }
        for value in try await store.documents(.template, as: Template.self) { snapshot.templates[value.id] = value }
        for value in try await store.documents(.volume, as: NetworkVolume.self) { snapshot.volumes[value.id] = value }
        for value in try await store.documents(.key, as: APIKey.self) { snapshot.keys[value.hash] = value }
        for value in try await store.documents(.s3key, as: S3Key.self) { snapshot.s3Keys[value.accessKeyId] = value }
        for value in try await store.documents(.objectstore, as: ObjectStore.self) { snapshot.objectStores[value.name] = value }
        for value in try await store.documents(.image, as: Image.self) { snapshot.images[value.name] = value }
        for value in try await store.documents(.registryauth, as: RegistryAuth.self) { snapshot.registryAuths[value.id] = value }
        state = Locked(snapshot)
    }

    package nonisolated var snapshot: Snapshot { state.withLock { $0 } }

    /// The key of the S3 door that has this id. Asked for every request there: it copies no more than it must.
    package nonisolated func s3KeyIfKnown(_ id: String) -> S3Key? { state.withLock { $0.s3Keys[id] } }

    package nonisolated func volumeIfKnown(_ id: String) -> NetworkVolume? { state.withLock { $0.volumes[id] } }

    package nonisolated func endpoint(_ id: String) -> Endpoint? { state.withLock { $0.endpoints[id] } }

    package nonisolated func key(matching secret: String) -> APIKey? {
        let hash = Hex.sha256(secret)
        return state.withLock { $0.keys[hash] }
    }

    /// GPU where a data center declares one.
    nonisolated var standardCompute: Endpoint.ComputeType {
        dataCenters.contains { $0.gpus.values.contains { $0 > 0 } } ? .gpu : .cpu
    }

    /// Changes memory now; takes it back when `persist` fails.
    func change<Value>(
        _ path: any WritableKeyPath<Snapshot, [String: Value]> & Sendable, key: String, to value: Value?,
        persist: () async throws -> Void
    ) async throws where Value: Sendable {
        let before = state.withLock { snapshot in
            let before = snapshot[keyPath: path][key]
            snapshot[keyPath: path][key] = value
            return before
        }
        do { try await persist() } catch {
            state.withLock { $0[keyPath: path][key] = before }
            throw error
        }
    }

    // MARK: - Keys

    /// Makes a key; the secret is returned once and not kept.
    package func createKey(name: String, scope: APIKey.Scope, endpoints: [String: APIKey.Access]) async throws -> (APIKey, String) {
        let secret = "rpa_" + Identifier.secret()
        return (try await addKey(secret: secret, name: name, scope: scope, endpoints: endpoints), secret)
    }

    package func createKey(_ body: JSON) async throws -> (APIKey, String) {
        let values = try FieldValues(body, fields: APIKey.fields, isUpdate: false)
        let scope = values.string("scope").flatMap(APIKey.Scope.init) ?? .all
        var endpoints: [String: APIKey.Access] = [:]
        for (id, text) in values.map("endpoints") ?? [:] {
            guard let access = APIKey.Access(rawValue: text) else {
                throw RoostError(.invalid, "field 'endpoints': '\(id)' is \(text); allowed: READ, READ_WRITE")
            }
            guard endpoint(id) != nil else { throw RoostError(.invalid, "field 'endpoints': there is no endpoint \(id)") }
            endpoints[id] = access
        }
        guard (scope == .restricted) == !endpoints.isEmpty else {
            throw RoostError(.invalid, "field 'endpoints': name endpoints with scope RESTRICTED, and only with it")
        }
        return try await createKey(name: values.string("name") ?? "", scope: scope, endpoints: endpoints)
    }

    package func addKey(
        secret: String, name: String, scope: APIKey.Scope, endpoints: [String: APIKey.Access]
    ) async throws -> APIKey {
        let key = APIKey(
            id: Identifier.make(length: Limits.shortIDLength), name: name, scope: scope, endpoints: endpoints,
            hash: Hex.sha256(secret), at: now())
        try await change(\.keys, key: key.hash, to: key) { try await store.save(key, kind: .key, id: key.id) }
        return key
    }

    package func revokeKey(_ id: String, by user: APIKey?) async throws {
        guard let key = snapshot.keys.values.first(where: { $0.id == id }) else { throw RoostError(.notFound, "there is no API key \(id)") }
        guard key.id != user?.id else { throw RoostError(.conflict, "an API key cannot revoke itself: use another one") }
        try await change(\.keys, key: key.hash, to: nil) { try await store.remove(.key, id: id) }
    }

    // MARK: - Images

    package func save(_ image: Image) async throws {
        try await change(\.images, key: image.name, to: image) { try await store.save(image, kind: .image, id: image.name) }
        for endpoint in snapshot.endpoints.keys { demand.signal(endpoint) }
    }

    package nonisolated func image(_ id: String) throws(RoostError) -> Image {
        let wanted = Image.normalize(id)
        guard
            let image = snapshot.images.values.first(where: {
                $0.name == wanted || (id.utf8.count >= 12 && $0.id.hasPrefix(id))
            })
        else { throw RoostError(.notFound, "there is no image \(id)") }
        return image
    }

    /// Notes that workers use an image, by the minute: eviction goes by it.
    func use(_ image: Image) async {
        guard image.usedAt ?? 0 < now() - 60_000, var known = snapshot.images[image.name], known.id == image.id else { return }
        known.usedAt = now()
        try? await change(\.images, key: image.name, to: known) { try await store.save(known, kind: .image, id: known.name) }
    }

    /// Whether a worker runs from an image; `WorkerService` says which do.
    nonisolated func isRunning(_ image: Image) -> Bool { running.withLock { $0.contains(image.id) } }

    package func removeImage(_ id: String) async throws {
        let image = try image(id)
        if let user = snapshot.templates.values.first(where: { Image.normalize($0.imageName) == image.name }) {
            throw RoostError(.conflict, "image \(image.name) is used by template \(user.id) (\(user.name))")
        }
        try await change(\.images, key: image.name, to: nil) { try await store.remove(.image, id: image.name) }
    }
}
