import Containers
import Disk
import Foundation
import Logging
import Resource

/// The whole control plane, put together once, readable from top to bottom.
package struct Plane: Sendable {
    package let configuration: ServerConfiguration
    package let catalog: Catalog
    package let volumes: VolumeService
    package let images: ImageService
    package let jobs: JobService
    package let workers: WorkerService
    package let scaler: ScalerService
    package let webhooks: WebhookService
    package let places: ObjectPlaces
    package let guardian: NetworkGuard
    package let inputs: InputStager
    package let spill: ResultSpill
    package let syncs: SyncService
    package let models: ModelService
    package let warmPages: WarmPageService
    let store: any Store
    private let signals: AsyncStream<WorkerSignal>
    private let signalling: AsyncStream<WorkerSignal>.Continuation
    private let log: Logger
    /// Held as long as the process lives.
    private let lock: Int32

    /// Opens the data directory and puts in order what an earlier run left. Nothing listens yet.
    package init(_ configuration: ServerConfiguration, log: Logger) async throws {
        let layout = DataLayout(root: configuration.dataDirectory)
        try layout.make()
        guard let lock = try Files.lock(layout.lock) else {
            throw RoostError(.conflict, "another roost serves \(layout.root): stop it, or choose another --data-dir")
        }
        let now: @Sendable () -> Milliseconds = { Milliseconds(Date().timeIntervalSince1970 * 1_000) }
        let (demand, webhookWakeups) = (Wakeups(), Wakeups())
        let (signals, signalling) = AsyncStream<WorkerSignal>.makeStream()
        let store = try SQLiteStore(path: layout.database)
        let imageStore = ImageStore(folder: layout.images, mounts: layout.layerMounts, reserve: configuration.diskReserveBytes)
        let roots = configuration.dataCenters.map { ($0.id, layout.volumes(of: $0)) }
        let volumeStore = VolumeStore(mounts: layout.volumeMounts, roots: Dictionary(roots, uniquingKeysWith: { $1 }))
        let secrets = try SecretBox(path: layout.secretKeys)
        guardian = NetworkGuard(allowsAll: configuration.allowsPrivateStores, apiPort: configuration.port)
        catalog = try await Catalog(
            store: store, configuration: configuration, secrets: secrets, guardian: guardian, demand: demand, now: now)
        places = ObjectPlaces(catalog: catalog, secrets: secrets)
        inputs = InputStager(places: places, guardian: guardian, now: now)
        volumes = VolumeService(catalog: catalog, disks: volumeStore, store: store, log: log)
        images = ImageService(catalog: catalog, images: imageStore, layout: layout, budget: configuration.imageBytes, log: log)
        let jobSecrets = JobSecrets(box: secrets, store: { [catalog] in catalog.s3Config(of: $0) })
        jobs = JobService(
            store: store, settings: configuration.jobs, secrets: jobSecrets, demand: demand, webhooks: webhookWakeups, signals: signalling,
            now: now, log: log)
        models = ModelService(
            catalog: catalog, places: places, guardian: guardian, store: store, configuration: configuration, folder: layout.models,
            log: log)
        let warmPages = WarmPageService(folder: layout.warmPages, memoryReserve: configuration.memoryReserveBytes, now: now, log: log)
        self.warmPages = warmPages
        workers = WorkerService(
            layout: layout, configuration: configuration, catalog: catalog, volumes: volumes, jobs: jobs, images: imageStore,
            disks: ContainerVolume(templates: layout.templates, mounts: layout.workerMounts),
            runtime: try OCIRuntime(preferred: configuration.runtime, state: layout.runtime), stager: inputs, models: models,
            warmPages: warmPages, store: store, demand: demand,
            now: now,
            log: log)
        scaler = ScalerService(
            catalog: catalog, jobs: jobs, workers: workers, images: images, models: models, pulls: configuration.pullsImages,
            demand: demand, now: now,
            log: log)
        spill = ResultSpill(places: places, jobs: jobs, now: now)
        syncs = SyncService(places: places, store: store, completed: jobs.completed, now: now, log: log)
        webhooks = WebhookService(store: store, wakeups: webhookWakeups, now: now, log: log)
        (self.configuration, self.store, self.log, self.lock) = (configuration, store, log, lock)
        (self.signals, self.signalling) = (signals, signalling)
        try await imageStore.clean()
        try Files.remove(layout.uploads)
        try Files.makeDirectories(layout.uploads)
        try await restore()
    }

    private func restore() async throws {
        let base = configuration.port == 0 ? nil : Self.apiBase(host: configuration.host, port: configuration.port)
        let (adopted, wiped) = try await workers.restore(expectedBase: base)
        try await volumes.restore()
        try await syncs.restore()
        try await models.restore()
        let found = try await jobs.restore(adopted: adopted)
        log.info(
            "state restored",
            metadata: [
                "workers_adopted": "\(adopted.count)", "workers_wiped": "\(wiped)", "jobs_queued": "\(found.queued)",
                "jobs_running": "\(found.running)", "jobs_returned": "\(found.returned)",
            ])
    }

    /// Where workers on this host reach a server that listens on `host`.
    package static func apiBase(host: String, port: Int) -> String {
        let name = ["0.0.0.0", "::", ""].contains(host) ? "127.0.0.1" : host
        return "http://\(name.contains(":") ? "[\(name)]" : name):\(port)"
    }

    /// The background work, until cancelled.
    package func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await jobs.run() }
            group.addTask { await workers.run(signals: signals) }
            group.addTask { await scaler.run() }
            group.addTask { await webhooks.run() }
            group.addTask { await syncs.run() }
            group.addTask { await sweep() }
            group.addTask { await watchMemory() }
        }
    }

    /// Stops in order: workers first, while they can still post results; then whoever waits for an answer.
    package func stop() async {
        await workers.stopAll()
        await jobs.stop()
        signalling.finish()
    }

    private func watchMemory() async {
        while (try? await Task.sleep(for: .seconds(2))) != nil { await workers.relieve() }
    }

    private func sweep() async {
        while (try? await Task.sleep(for: .seconds(10))) != nil {
            do { while try await store.sweep(at: catalog.now()) == 1_000 {} } catch {
                log.error("failed to remove old jobs", metadata: ["error": "\(error)"])
            }
            do { try await catalog.forgetExpiredS3Keys() } catch {
                log.error("failed to remove expired S3 keys", metadata: ["error": "\(error)"])
            }
        }
    }
}
