import Containers
import Crypto
import Disk
import Glibc
import Logging
import Resource
import S3

/// The models on this machine: fetched once whoever asks first, shared by all workers that want them, evicted by budget.
package actor ModelService {
    private struct Fetching {
        var task: Task<Model, any Error>?
        var total: Int64 = 0
        var done: Int64 = 0
        var failure: String?
        var endedAt: Milliseconds?
    }

    private let catalog: Catalog
    private let places: ObjectPlaces
    private let guardian: NetworkGuard
    private let store: any Store
    private let folder: String
    private let hub: String
    private let budget: Int64?
    private let log: Logger
    /// By reference.
    private var models: [String: Model] = [:]
    private var fetching: [String: Fetching] = [:]

    /// After a failure, until workers that wait for a model have it tried again.
    private static let pause: Milliseconds = 30_000

    init(
        catalog: Catalog, places: ObjectPlaces, guardian: NetworkGuard, store: any Store, configuration: ServerConfiguration,
        folder: String,
        log: Logger
    ) {
        (self.catalog, self.places, self.guardian, self.store, self.folder, self.log) = (catalog, places, guardian, store, folder, log)
        (hub, budget) = (configuration.modelHubURL, configuration.modelBytes)
    }

    private nonisolated var cache: String { folder + "/hub" }
    private nonisolated var staging: String { folder + "/staging" }

    /// Reads what is recorded; what is not recorded is removed.
    func restore() async throws {
        try Files.remove(staging)
        try Files.makeDirectories(staging)
        try Files.makeDirectories(cache, mode: 0o755)
        for model in try await store.documents(.model, as: Model.self) {
            // Its snapshot may have been on its way to be replaced when the server ended.
            guard try Files.exists(snapshot(of: model)) else {
                try await store.remove(.model, id: model.id)
                continue
            }
            models[model.reference] = model
        }
        let known = Set(models.values.compactMap { try? ModelReference($0.reference).folder })
        for name in try Files.names(in: cache) where !known.contains(name) { try Files.remove(cache + "/" + name) }
    }

    private nonisolated func snapshot(of model: Model) throws(RoostError) -> String {
        "\(cache)/\(try ModelReference(model.reference).folder)/snapshots/\(model.snapshot)"
    }

    /// Removes the files of a model that `models` does not hold any more. Two references may be one snapshot: a branch and a tag.
    private func removeSnapshot(of model: Model) async throws {
        let folder = try ModelReference(model.reference).folder
        let others = models.values.filter { (try? ModelReference($0.reference).folder) == folder }
        guard !others.contains(where: { $0.snapshot == model.snapshot }) else { return }
        let path = others.isEmpty ? cache + "/" + folder : try snapshot(of: model)
        try await Blocking.run { try Files.remove(path) }
    }

    // MARK: - Requests

    package var all: [Model] { models.values.sorted { $0.createdAt < $1.createdAt } }

    package func model(_ id: String) throws(RoostError) -> Model {
        guard let model = models.values.first(where: { $0.id == id || $0.reference == id }) else {
            throw RoostError(.notFound, "there is no model \(id.prefix(80))")
        }
        return model
    }

    /// Fetches a model, also one that is there: its reference may point to something newer.
    package func add(_ text: String, token: String?) async throws -> Model { try await begin(ModelReference(text), token).value }

    package func remove(_ id: String) async throws {
        let model = try model(id)
        guard !isNamed(model) else { throw RoostError(.conflict, "model \(model.reference) is used by an endpoint") }
        try await forget(model)
    }

    private func forget(_ model: Model) async throws {
        models[model.reference] = nil
        try await store.remove(.model, id: model.id)
        try await removeSnapshot(of: model)
    }

    /// Reads all of a model again; names the files that are not what they were.
    package func verify(_ id: String) async throws -> [String] {
        let model = try model(id)
        let root = try snapshot(of: model)
        return try await Blocking.run {
            model.files.filter { file in (try? Self.sha256(of: "\(root)/\(file.path)")) != file.sha256 }.map(\.path)
        }
    }

    private static func sha256(of path: String) throws -> String {
        try Files.withDescriptor(path, flags: O_RDONLY) { descriptor in
            var hash = SHA256()
            var buffer = [UInt8](repeating: 0, count: 1 << 20)
            while true {
                let count = try check(Int32(clamping: read(descriptor, &buffer, buffer.count)), "read", path)
                if count == 0 { return Signature.text(hash.finalize()) }
                buffer.withUnsafeBytes { hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: $0[..<Int(count)])) }
            }
        }
    }

    // MARK: - For workers

    /// Nil once all models of an endpoint are here; else has them fetched, and says how that goes.
    func want(_ endpoint: Endpoint, token: String?) -> String? {
        var reason: String?
        for text in endpoint.modelReferences {
            guard let reference = try? ModelReference(text) else { continue }
            let key = reference.text
            if models[key] != nil, fetching[key]?.task == nil { continue }
            if let running = fetching[key], running.task != nil {
                reason = "model \(key) is being fetched: \(running.done >> 20) of \(running.total >> 20) MiB"
            } else if let failure = fetching[key]?.failure, let ended = fetching[key]?.endedAt, ended + Self.pause > catalog.now() {
                return "model \(key) could not be fetched: \(failure)"
            } else {
                _ = begin(reference, token)
                reason = "model \(key) is being fetched"
            }
        }
        return reason
    }

    /// Folders to be mounted into a worker of an endpoint.
    func binds(of endpoint: Endpoint) -> [ContainerSpec.Bind] {
        var seen: Set<String> = []
        return endpoint.modelReferences.compactMap { text in
            guard let reference = try? ModelReference(text), models[reference.text] != nil, seen.insert(reference.folder).inserted else {
                return nil
            }
            models[reference.text]?.usedAt = catalog.now()
            return .init(
                source: "\(cache)/\(reference.folder)", target: "/runpod-volume/huggingface-cache/hub/\(reference.folder)", isReadOnly: true
            )
        }
    }

    // MARK: - Fetching

    private func begin(_ reference: ModelReference, _ token: String?) -> Task<Model, any Error> {
        let key = reference.text
        if let task = fetching[key]?.task { return task }
        let conflict = conflict(with: reference)
        let task = Task { try await self.perform(reference, token, conflict) }
        fetching[key] = Fetching(task: task)
        return task
    }

    private func perform(_ reference: ModelReference, _ token: String?, _ conflict: RoostError?) async throws -> Model {
        let key = reference.text
        do {
            if let conflict { throw conflict }
            let (reports, reporting) = AsyncStream<(Int64?, Int64)>.makeStream()
            let listening = Task { for await (total, more) in reports { self.note(key, total, more) } }
            defer { reporting.finish() }
            let source = ModelSource(
                reference: reference, places: places, remote: RemoteFile(guardian: guardian), hub: hub, token: token)
            let fetch = ModelFetch(source: source, hub: cache, staging: staging) { reporting.yield(($0, $1)) }
            let model = try await fetch.run(id: models[key]?.id ?? Identifier.make(length: Limits.shortIDLength), at: catalog.now())
            try await store.save(model, kind: .model, id: model.id)
            let old = models.updateValue(model, forKey: key)
            if let old, old.snapshot != model.snapshot { try? await removeSnapshot(of: old) }
            listening.cancel()
            finish(key, failure: nil)
            log.info("model fetched", metadata: ["model": "\(key)", "mib": "\(model.bytes >> 20)"])
            await evict(keeping: key)
            return model
        } catch {
            let text = explain(error, reference)
            finish(key, failure: text)
            log.warning("model not fetched", metadata: ["model": "\(key)", "error": "\(text)"])
            throw (error as? RoostError) ?? RoostError(.unavailable, text)
        }
    }

    /// Handlers find a model by its folder's name alone: `store:a` with `b-c` and with `b/c` would be one.
    private func conflict(with reference: ModelReference) -> RoostError? {
        let others = Array(models.keys) + fetching.filter { $0.value.task != nil }.map(\.key)
        let other = others.compactMap { try? ModelReference($0) }.first { $0.folder == reference.folder && !$0.isSameModel(as: reference) }
        return other.map {
            RoostError(
                .conflict, "model \(reference.text) would lie in the same folder as \($0.text), \($0.folder): remove that one first")
        }
    }

    private func explain(_ error: any Error, _ reference: ModelReference) -> String {
        if let error = error as? RoostError { return error.message }
        if let error = error as? DiskError { return error.roostError.message }
        if case .folder(let name, _) = reference, let name = ObjectPlace.Name(name), let place = try? places.place(name) {
            return places.explain(error, place)
        }
        return "the hub \(hub) cannot be reached: \(error)"
    }

    private func note(_ key: String, _ total: Int64?, _ more: Int64) {
        if let total { fetching[key]?.total = total }
        fetching[key]?.done += more
    }

    private func finish(_ key: String, failure: String?) {
        fetching[key]?.task = nil
        fetching[key]?.failure = failure
        fetching[key]?.endedAt = catalog.now()
        for endpoint in catalog.snapshot.endpoints.values where !endpoint.modelReferences.isEmpty { catalog.demand.signal(endpoint.id) }
    }

    // MARK: - Budget

    private func isNamed(_ model: Model) -> Bool {
        catalog.snapshot.endpoints.values.contains { endpoint in
            endpoint.modelReferences.contains { (try? ModelReference($0).text) == model.reference }
        }
    }

    /// Removes models that no endpoint names, longest unused first, until the rest is within the budget.
    private func evict(keeping key: String) async {
        guard let budget else { return }
        while models.values.reduce(0, { $0 + $1.bytes }) > budget {
            let unused = models.values.filter { $0.reference != key && !isNamed($0) }
            guard let oldest = unused.min(by: { $0.usedAt < $1.usedAt }) else { return }
            log.info("model evicted", metadata: ["model": "\(oldest.reference)"])
            // The model that came is here all the same.
            do { try await forget(oldest) } catch {
                return log.error("failed to evict a model", metadata: ["model": "\(oldest.reference)", "error": "\(error)"])
            }
        }
    }
}
