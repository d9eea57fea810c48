import Containers
import Disk
import Glibc
import Logging
import Resource

/// The workers: makes them, watches them, stops them, cleans up after them.
package actor WorkerService {
    struct Entry {
        var worker: Worker
        var lifecycle: WorkerLifecycle
        var container: OCIRuntime.Container
        /// When its present start was decided.
        var decidedAt = ContinuousClock.now
        /// What it holds while it is parked.
        var parkedBytes: Int64 = 0
        /// Whether it was made to give back what it can do without.
        var isReclaimed = false
    }

    /// Long-running steps, each its own task below `run`.
    enum Order: Sendable {
        case launch(String, token: String)
        case warm(String)
        case endRecording(String)
        case saveStarts
        case watch(String)
        case killAfterGrace(String)
        case initTimeout(String, seconds: Int)
        case park(String)
        case thawCheck(String, since: Milliseconds)
        case watchMount(String, BucketMounter.Process)
        case prepare(String, job: Job, payload: JobPayload, folder: String)
        case unstage(String, folder: String)
    }

    let layout: DataLayout
    let configuration: ServerConfiguration
    let catalog: Catalog
    let volumes: VolumeService
    let jobs: JobService
    let images: ImageStore
    let disks: ContainerVolume
    let runtime: OCIRuntime
    let mounter: BucketMounter
    let stager: InputStager
    let models: ModelService
    let warmPages: WarmPageService
    let store: any Store
    let demand: Wakeups
    let now: @Sendable () -> Milliseconds
    let log: Logger

    var entries: [String: Entry] = [:] {
        didSet {
            guard entries.count != oldValue.count else { return }
            let images = Set(entries.values.map(\.worker.imageID))
            catalog.running.withLock { $0 = images }
        }
    }
    private(set) var backoffs: [String: CrashBackoff] = [:]
    var starts = StartLog()
    /// What workers read that are not ready yet.
    var recordings: [String: WarmRecording] = [:]
    /// Workers that are on their way to be parked.
    var parking: Set<String> = []
    /// Where workers reach Roost; nil until it listens.
    private var apiBase: String?
    private let orders: AsyncStream<Order>
    private let ordering: AsyncStream<Order>.Continuation
    private var emptied: [CheckedContinuation<Void, Never>] = []

    package init(
        layout: DataLayout, configuration: ServerConfiguration, catalog: Catalog, volumes: VolumeService, jobs: JobService,
        images: ImageStore, disks: ContainerVolume, runtime: OCIRuntime, stager: InputStager, models: ModelService,
        warmPages: WarmPageService, store: any Store, demand: Wakeups,
        now: @escaping @Sendable () -> Milliseconds, log: Logger
    ) {
        self.layout = layout
        self.configuration = configuration
        self.catalog = catalog
        self.volumes = volumes
        self.jobs = jobs
        self.images = images
        self.disks = disks
        self.runtime = runtime
        self.stager = stager
        self.models = models
        self.warmPages = warmPages
        mounter = BucketMounter(folder: layout.bucketMounts, tool: configuration.rclone)
        self.store = store
        self.demand = demand
        self.now = now
        self.log = log
        (orders, ordering) = AsyncStream.makeStream()
    }

    /// Roost listens: workers can be started.
    package func open(apiBase: String) {
        self.apiBase = apiBase
        for endpoint in catalog.snapshot.endpoints.keys { demand.signal(endpoint) }
    }

    package var isOpen: Bool { apiBase != nil }

    /// Performs orders and the queue's signals until cancelled.
    package func run(signals: AsyncStream<WorkerSignal>) async {
        await withDiscardingTaskGroup { group in
            group.addTask { for await signal in signals { await self.handle(signal) } }
            for await order in orders { group.addTask { await self.perform(order) } }
            group.cancelAll()
        }
    }

    // MARK: - Starting

    /// Records a worker and has it made. The record is durable when this returns; the rest follows.
    package func start(
        _ endpoint: Endpoint, image: Image, template: Template, placement: Placement, isSpare: Bool = false,
        waitedSince: Milliseconds? = nil
    ) async throws -> String {
        guard let apiBase else { throw RoostError(.unavailable, "the server is not listening yet") }
        let token = "rpw_" + Identifier.secret()
        var worker = Worker(
            id: Identifier.make(length: Limits.idLength), endpointID: endpoint.id, dataCenterID: placement.dataCenterID,
            volumeID: placement.volumeID, gpuType: placement.gpuType,
            gpuCount: endpoint.computeType == .gpu ? endpoint.gpuCount : 0, vcpus: endpoint.vcpuCount,
            memoryBytes: endpoint.memoryBytes, diskBytes: template.containerDiskBytes, imageName: image.name, imageID: image.id,
            version: endpoint.version, tokenHash: Hex.sha256(token), createdAt: now(), placement: placement.reason,
            apiBase: apiBase)
        if isSpare { worker.isSpare = true }
        worker.start = StartRecord(
            kind: .fresh, workerID: worker.id, at: worker.createdAt, queuedMilliseconds: waitedSince.map { worker.createdAt - $0 } ?? 0)
        entries[worker.id] = Entry(worker: worker, lifecycle: WorkerLifecycle(), container: container(of: worker))
        do { try await store.save(worker, kind: .worker, id: worker.id) } catch {
            entries[worker.id] = nil
            throw error
        }
        mark(.placed, of: worker.id)
        await jobs.attach(worker.id, endpointID: endpoint.id)
        await catalog.use(image)
        ordering.yield(.launch(worker.id, token: token))
        ordering.yield(.warm(worker.id))
        return worker.id
    }

    func container(of worker: Worker) -> OCIRuntime.Container {
        OCIRuntime.Container(id: worker.id, folder: layout.worker(worker.id), log: layout.log(of: worker))
    }

    private func perform(_ order: Order) async {
        switch order {
        case .launch(let id, let token):
            do {
                try await launch(id, token: token)
                await watch(id)
            } catch {
                await ended(id, exit: nil, failure: "\(error)")
            }
        case .warm(let id): await warm(id)
        case .endRecording(let id): await endRecording(id)
        case .saveStarts: await saveStartsSoon()
        case .watch(let id): await watch(id)
        case .killAfterGrace(let id):
            guard (try? await Task.sleep(for: .milliseconds(Limits.stopGrace))) != nil else { return }
            apply(id) { $0.graceOver() }
        case .initTimeout(let id, let seconds):
            guard (try? await Task.sleep(for: .seconds(seconds))) != nil else { return }
            apply(id) { $0.initTimeout() }
        case .park(let id): await park(id)
        case .thawCheck(let id, let since): await checkThaw(id, since: since)
        case .watchMount(let id, let process): await watchMount(id, process)
        case .prepare(let id, let job, let payload, let folder): await prepare(id, job, payload, folder)
        case .unstage(let id, let folder):
            guard let root = entries[id].flatMap({ runtime.rootPath($0.container) }) else { return }
            try? await Blocking.run { try ContainedFolder(root: root).removeFlat("\(InputStager.folder)/\(folder)") }
        }
    }

    private func launch(_ id: String, token: String) async throws {
        guard let entry = entries[id], let endpoint = catalog.endpoint(entry.worker.endpointID) else { return }
        let begin = ContinuousClock.now
        let template = try catalog.template(endpoint.templateId)
        let image = try catalog.image(entry.worker.imageName)
        let spec = try await prepare(entry.worker, token: token, endpoint: endpoint, template: template, image: image)
        let recording = await beginRecording(entry.worker, endpoint, image, rootfs: spec.mounted.rootfs)
        try await runtime.start(entry.container, spec: spec.container, prepared: recording?.addMounts)
        mark(.process, of: id)
        try spec.mounted.handOver()
        let hasJobs = await jobs.isBusy(id)
        guard var current = entries[id] else { return }
        current.worker.startedAt = now()
        let action = current.lifecycle.started(at: now(), hasJobs: hasJobs)
        entries[id] = current
        perform(current.lifecycle.phase == .killed ? .kill : action, on: id)
        ordering.yield(.initTimeout(id, seconds: initTimeout(template)))
        log.info(
            "worker started",
            metadata: [
                "worker_id": "\(id)", "endpoint_id": "\(endpoint.id)", "start_ms": "\(begin.duration(to: .now) / .milliseconds(1))",
            ])
        try await store.save(current.worker, kind: .worker, id: id)
    }

    private func initTimeout(_ template: Template) -> Int {
        let own = template.env["RUNPOD_INIT_TIMEOUT"].flatMap(Int.init)
        return own.flatMap { (1...86_400).contains($0) ? $0 : nil } ?? configuration.initTimeoutSeconds
    }

    static let volumeTarget = "/runpod-volume"

    /// Makes folder, disk and mounts, and says what the container is to be.
    private func prepare(
        _ worker: Worker, token: String, endpoint: Endpoint, template: Template, image: Image
    ) async throws -> (container: ContainerSpec, mounted: ContainerVolume.Mounted) {
        let arguments = Self.arguments(template: template, image: image)
        guard !arguments.isEmpty else {
            throw RoostError(.invalid, "image \(image.name) has no command: set the template's dockerStartCmd")
        }
        let empty = try await disks.prepareTemplate(bytes: worker.diskBytes)
        var binds: [ContainerSpec.Bind] = []
        if let volume = worker.volumeID {
            binds.append(.init(source: try await volumes.open(volume).dataPath, target: Self.volumeTarget))
        }
        let (layout, images, disks, id) = (layout, images, disks, worker.id)
        let logFolder = Files.parent(of: layout.log(of: worker))
        let layers = try await Blocking.run { try images.mount(image) }
        mark(.image, of: id)
        let mounted = try await Blocking.run {
            try Files.makeDirectories(layout.worker(id))
            try Files.makeDirectories(logFolder)
            return try disks.make(file: layout.disk(of: id), worker: id, template: empty, layers: layers)
        }
        mark(.containerVolume, of: id)
        binds += try Self.networkFiles(in: layout.worker(id), host: id)
        binds += await models.binds(of: endpoint)
        binds += try await mountBuckets(of: endpoint, for: id)
        mark(.mounts, of: id)
        let spec = ContainerSpec(
            id: id, rootfs: mounted.rootfs, arguments: arguments,
            env: WorkerEnvironment.make(worker: worker, token: token, endpoint: endpoint, template: template, image: image),
            workingDirectory: image.workingDirectory, user: image.user, vcpus: worker.vcpus, memoryBytes: worker.memoryBytes,
            binds: binds)
        return (spec, mounted)
    }

    /// As Docker has it: a new entrypoint also drops the image's command.
    static func arguments(template: Template, image: Image) -> [String] {
        let entrypoint = template.dockerEntrypoint.isEmpty ? image.entrypoint : template.dockerEntrypoint
        let command = template.dockerStartCmd.isEmpty && template.dockerEntrypoint.isEmpty ? image.command : template.dockerStartCmd
        return entrypoint + command
    }

    /// Names resolve as on the host; the host's own files stay out of the worker.
    private static func networkFiles(in folder: String, host: String) throws -> [ContainerSpec.Bind] {
        let hosts = Array("127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t\(host)\n".utf8)
        let resolv = (try? Files.read("/etc/resolv.conf", limit: 64 << 10)) ?? []
        return try [("hosts", hosts), ("resolv.conf", resolv)].map { name, bytes in
            let path = folder + "/" + name
            try Files.withDescriptor(path, flags: O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644) {
                try Files.write(bytes, to: $0, path: path)
            }
            return .init(source: path, target: "/etc/" + name, isReadOnly: true)
        }
    }

    // MARK: - Ending

    private func watch(_ id: String) async {
        guard let entry = entries[id] else { return }
        do {
            guard let end = try await runtime.waitForExit(entry.container) else { return }
            await ended(id, exit: WorkerExit(code: end.code, signal: end.signal, ranOutOfMemory: runtime.ranOutOfMemory(id)), failure: nil)
        } catch {
            log.error("failed to watch a worker", metadata: ["worker_id": "\(id)", "error": "\(error)"])
            await ended(id, exit: nil, failure: "\(error)")
        }
    }

    /// The worker is gone, or could not be made: its jobs first, then everything it had.
    private func ended(_ id: String, exit: WorkerExit?, failure: String?) async {
        guard var entry = entries[id], entry.lifecycle.exited() == .destroy else { return }
        entries[id] = entry
        let isPlanned = entry.lifecycle.stopReason != nil && !entry.lifecycle.isFaulty
        let reason = self.reason(entry, exit: exit, failure: failure)
        noteEnd(entry.worker, reason: reason, isFault: !isPlanned || entry.lifecycle.isFaulty)
        await dropRecording(of: entry.worker)
        do {
            try await jobs.detach(id, reason: reason, isPlanned: isPlanned)
        } catch {
            log.error("failed to give jobs back", metadata: ["worker_id": "\(id)", "error": "\(error)"])
        }
        do {
            try await destroy(entry.worker)
            entries[id] = nil
        } catch {
            // The record stays, so the next start tries again.
            log.error("failed to remove a worker", metadata: ["worker_id": "\(id)", "error": "\(error)"])
            entries[id] = nil
        }
        log.info("worker ended", metadata: ["worker_id": "\(id)", "endpoint_id": "\(entry.worker.endpointID)", "reason": "\(reason)"])
        for endpoint in catalog.snapshot.endpoints.keys { demand.signal(endpoint) }
        if entries.isEmpty {
            for waiter in emptied { waiter.resume() }
            emptied = []
        }
    }

    private func reason(_ entry: Entry, exit: WorkerExit?, failure: String?) -> String {
        if let failure { return failure }
        if let stop = entry.lifecycle.stopReason, exit?.ranOutOfMemory != true { return stop }
        let how = exit?.description(memoryBytes: entry.worker.memoryBytes) ?? "the worker ended"
        let last = WorkerLog(path: layout.log(of: entry.worker)).lastLine().map { "; last log line: \($0)" } ?? ""
        return how + last
    }

    /// A worker that ends soon and unasked slows down the next starts.
    private func noteEnd(_ worker: Worker, reason: String, isFault: Bool) {
        let lived = worker.readyAt.map { now() - $0 } ?? 0
        if lived > 30_000 || (!isFault && worker.readyAt != nil) {
            backoffs[worker.endpointID] = nil
        } else if isFault {
            backoffs[worker.endpointID, default: CrashBackoff()].failed(reason: reason, at: now())
        }
    }

    /// Removes container, disk, folder and record. The log stays.
    func destroy(_ worker: Worker) async throws {
        try await runtime.delete(container(of: worker))
        let (layout, disks, mounter, id) = (layout, disks, mounter, worker.id)
        try await Blocking.run {
            try mounter.remove(id)
            try disks.wipe(file: layout.disk(of: id), worker: id)
            try Files.remove(layout.worker(id))
        }
        try await store.remove(.worker, id: id)
        pruneLogs(of: worker.endpointID)
    }

    /// Keeps the logs of the last 100 workers of an endpoint.
    private func pruneLogs(of endpoint: String) {
        let folder = layout.logs + "/" + endpoint
        guard let names = try? Files.names(in: folder), names.count > 200 else { return }
        let dated = names.compactMap { name in (try? Files.status(folder + "/" + name)).map { (name, $0.st_mtim.tv_sec) } }
        for (name, _) in dated.sorted(by: { $0.1 < $1.1 }).prefix(names.count - 200) { unlink(folder + "/" + name) }
    }

    // MARK: - Stopping

    /// Lets a worker finish its jobs, then stops it.
    package func drain(_ id: String, reason: String) async {
        await jobs.drain(id)
        let hasJobs = await jobs.isBusy(id)
        let time = now()
        apply(id) { $0.drain(reason: reason, hasJobs: hasJobs, at: time) }
    }

    /// Stops a worker now.
    package func condemn(_ id: String, reason: String) { apply(id) { $0.condemn(reason: reason) } }

    package func condemnAll(of endpoint: String, reason: String) {
        for (id, entry) in entries where entry.worker.endpointID == endpoint { condemn(id, reason: reason) }
        backoffs[endpoint] = nil
    }

    /// For SIGTERM: drains all, waits for running jobs as long as configured, then kills. Returns when none is left.
    package func stopAll() async {
        apiBase = nil
        for id in entries.keys { await drain(id, reason: "the server is stopping") }
        let deadline = Task {
            guard (try? await Task.sleep(for: .seconds(configuration.shutdownGraceSeconds))) != nil else { return }
            for id in self.entries.keys { self.condemn(id, reason: "the server is stopping") }
        }
        if !entries.isEmpty { await withCheckedContinuation { emptied.append($0) } }
        deadline.cancel()
        await saveStarts()
        ordering.finish()
    }

    private func handle(_ signal: WorkerSignal) async {
        switch signal {
        case .ready(let id, let time):
            guard var entry = entries[id], entry.lifecycle.polled() else { return }
            entry.worker.readyAt = now()
            entries[id] = entry
            mark(.firstPoll, of: id, at: time)
            ordering.yield(.endRecording(id))
            if entry.worker.isSpare == true { ordering.yield(.park(id)) }
            demand.signal(entry.worker.endpointID)
            log.info(
                "worker ready",
                metadata: ["worker_id": "\(id)", "since_created_ms": "\(now() - entry.worker.createdAt)"])
            do { try await store.save(entry.worker, kind: .worker, id: id) } catch {
                log.error("failed to record a worker", metadata: ["worker_id": "\(id)", "error": "\(error)"])
            }
        case .released(let id):
            guard entries[id]?.lifecycle.phase == .draining, await !jobs.isBusy(id) else { return }
            let time = now()
            apply(id) { $0.jobsDone(at: time) }
        case .recycle(let id, let reason): await drain(id, reason: reason)
        case .condemn(let id, let reason): condemn(id, reason: reason)
        case .step(let id, let step, let time): mark(step, of: id, at: time)
        case .prepare(let id, let job, let payload, let folder):
            ordering.yield(.prepare(id, job: job, payload: payload, folder: folder))
        case .unstage(let id, let folder): ordering.yield(.unstage(id, folder: folder))
        }
    }

    func order(_ order: Order) { ordering.yield(order) }

    /// Something a worker needs is gone.
    func breakDown(_ id: String, reason: String) { apply(id) { $0.broke(reason) } }

    private func apply(_ id: String, _ event: (inout WorkerLifecycle) -> WorkerLifecycle.Action) {
        guard var entry = entries[id] else { return }
        let action = event(&entry.lifecycle)
        entries[id] = entry
        perform(action, on: id)
    }

    private func perform(_ action: WorkerLifecycle.Action, on id: String) {
        guard let entry = entries[id] else { return }
        switch action {
        case .none, .drain, .destroy: break
        case .terminate:
            runtime.signal(entry.container, SIGTERM)
            // After the signal: a poll answered before it would be followed by another.
            Task { await jobs.release(id) }
            ordering.yield(.killAfterGrace(id))
        case .kill:
            // First the mounts: a process that waits for one of them cannot die.
            mounter.abort(id)
            runtime.signal(entry.container, SIGKILL)
            // A frozen process dies when it is thawed, and not before.
            try? Freezer.thaw(id)
        }
    }

    // MARK: - Start-up

    /// Takes over workers that still run; removes everything of those that do not. Returns the adopted ones.
    package func restore(expectedBase: String?) async throws -> (adopted: [Worker], wiped: Int) {
        try await restoreStarts()
        var adopted: [Worker] = []
        let recorded = try await store.documents(.worker, as: Worker.self)
        for var worker in recorded {
            let container = container(of: worker)
            let isUsable = worker.apiBase == expectedBase && worker.startedAt != nil && catalog.endpoint(worker.endpointID) != nil
            if isUsable, try runtime.isRunning(container) {
                // What the kernel says counts, not what was recorded before or after it.
                let isParked = worker.readyAt != nil && Freezer.isFrozen(worker.id)
                worker.parkedAt = isParked ? worker.parkedAt ?? now() : nil
                if !isParked { try? Freezer.thaw(worker.id) }
                entries[worker.id] = Entry(
                    worker: worker, lifecycle: WorkerLifecycle(adoptedAt: now(), isReady: worker.readyAt != nil, isParked: isParked),
                    container: container, parkedBytes: isParked ? Freezer.memoryBytes(worker.id) : 0)
                adopted.append(worker)
            } else {
                try? Freezer.thaw(worker.id)
                try await destroy(worker)
            }
        }
        var wiped = recorded.count - adopted.count
        // Folders without a record: a crash between the two. Ours, since only workers lie here.
        for id in try Files.names(in: layout.workers) where entries[id] == nil {
            try await runtime.delete(.init(id: id, folder: layout.worker(id), log: ""))
            try mounter.remove(id)
            try disks.wipe(file: layout.disk(of: id), worker: id)
            try Files.remove(layout.worker(id))
            wiped += 1
        }
        for worker in adopted {
            ordering.yield(.watch(worker.id))
            for process in mounter.processes(of: worker.id) { ordering.yield(.watchMount(worker.id, process)) }
        }
        return (adopted, wiped)
    }
}
