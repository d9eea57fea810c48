import Logging
import Resource

/// Looks at endpoints whose demand changed, asks the rule, and does what it says.
package actor ScalerService {
    private let catalog: Catalog
    private let jobs: JobService
    private let workers: WorkerService
    private let images: ImageService
    private let models: ModelService
    /// Whether missing images are pulled.
    private let pulls: Bool
    private let demand: Wakeups
    private let now: @Sendable () -> Milliseconds
    private let log: Logger
    private var timers: [String: Task<Void, Never>] = [:]
    /// Until capacity may have come back by itself.
    private static let capacityRetry: Milliseconds = 5_000

    package init(
        catalog: Catalog, jobs: JobService, workers: WorkerService, images: ImageService, models: ModelService, pulls: Bool,
        demand: Wakeups,
        now: @escaping @Sendable () -> Milliseconds,
        log: Logger
    ) {
        self.catalog = catalog
        self.jobs = jobs
        self.workers = workers
        (self.images, self.models, self.pulls) = (images, models, pulls)
        self.demand = demand
        self.now = now
        self.log = log
    }

    package func run() async {
        while !Task.isCancelled {
            for endpoint in await demand.next().sorted() { await evaluate(endpoint) }
        }
        for timer in timers.values { timer.cancel() }
    }

    private func evaluate(_ id: String) async {
        timers.removeValue(forKey: id)?.cancel()
        guard let endpoint = catalog.endpoint(id) else {
            return await workers.condemnAll(of: id, reason: "its endpoint was deleted")
        }
        guard await workers.isOpen else { return }
        let seen = await jobs.demand(of: id, limit: max(1, endpoint.workersMax))
        let backoff = await workers.backoff(of: id)
        let samples = await workers.samples(of: endpoint, demand: seen)
        var decision = ScalingDecision.decide(
            ScalingSample(
                now: now(), endpoint: endpoint, queued: seen.queued, waitingSince: seen.waitingSince, running: seen.running,
                workers: samples, backoffUntil: backoff?.until))
        for worker in decision.stop { await workers.drain(worker, reason: Self.stopReason(worker, samples)) }
        for worker in decision.park { await workers.order(.park(worker)) }
        let waited = seen.waitingSince.first
        for worker in decision.thaw where await !workers.thaw(worker, waitedSince: waited) { decision.start += 1 }
        var refusal = await start(decision.start, of: endpoint, waitedSince: waited)
        if let shortages = refusal?.shortages, await workers.evictParked(for: shortages) { demand.signal(id) }
        if refusal == nil { refusal = await startSpares(decision.startSpares, of: endpoint) }
        if refusal != nil { decision.reconsiderAt = min(decision.reconsiderAt ?? .max, now() + Self.capacityRetry) }
        let reason = refusal?.reason ?? waitReason(endpoint, seen, samples, decision, backoff)
        await jobs.setWaitReason(seen.hasAnyQueued ? reason : nil, of: id)
        if let time = decision.reconsiderAt { lookAgain(at: id, time: time) }
    }

    private func lookAgain(at endpoint: String, time: Milliseconds) {
        let delay = max(5, time - now())
        let demand = demand
        timers[endpoint] = Task {
            if (try? await Task.sleep(for: .milliseconds(delay))) != nil { demand.signal(endpoint) }
        }
    }

    /// Why a worker was not started.
    private struct Refusal {
        var reason: String
        /// What it would have been started with, had parked workers left it.
        var shortages: [Placement.Shortage] = []
    }

    /// Starts workers; returns why it could not start all of them.
    private func start(_ count: Int, of endpoint: Endpoint, isSpare: Bool = false, waitedSince: Milliseconds? = nil) async -> Refusal? {
        for _ in 0..<count {
            let snapshot = catalog.snapshot
            guard let template = snapshot.templates[endpoint.templateId] else { return Refusal(reason: "its template is gone") }
            guard let image = snapshot.images[Image.normalize(template.imageName)] else {
                guard pulls else {
                    return Refusal(reason: "image missing: \(template.imageName); import it: roost image import \(template.imageName) FILE")
                }
                return Refusal(reason: await images.want(template.imageName, auth: template.containerRegistryAuthId))
            }
            if let reason = await models.want(endpoint, token: template.env["HF_TOKEN"]) { return Refusal(reason: reason) }
            let volumes = endpoint.networkVolumeIds.compactMap { snapshot.volumes[$0] }
            switch Placement.choose(for: endpoint, volumes: volumes, sites: await workers.sites()) {
            case .failure(let refusal): return Refusal(reason: refusal.reason, shortages: refusal.shortages)
            case .success(let placement):
                do {
                    let id = try await workers.start(
                        endpoint, image: image, template: template, placement: placement, isSpare: isSpare, waitedSince: waitedSince)
                    log.info(
                        "worker placed",
                        metadata: ["worker_id": "\(id)", "endpoint_id": "\(endpoint.id)", "placement": "\(placement.reason)"])
                } catch {
                    return Refusal(reason: "cannot record a worker: \(error)")
                }
            }
        }
        return nil
    }

    /// Spares are started as long as there is room to park them; that there is none is no reason for a job to wait.
    private func startSpares(_ count: Int, of endpoint: Endpoint) async -> Refusal? {
        for _ in 0..<count {
            guard await workers.hasRoomToPark(endpoint) else { return nil }
            if let refusal = await start(1, of: endpoint, isSpare: true) { return refusal }
        }
        return nil
    }

    private static func stopReason(_ worker: String, _ samples: [ScalingSample.WorkerSample]) -> String {
        guard let sample = samples.first(where: { $0.id == worker }) else { return "scaled down" }
        if sample.isOutdated { return "outdated: the endpoint or its template changed" }
        if case .idle = sample.activity { return "idle timeout" }
        return "more workers than workersMax"
    }

    private func waitReason(
        _ endpoint: Endpoint, _ seen: JobService.Demand, _ samples: [ScalingSample.WorkerSample], _ decision: ScalingDecision,
        _ backoff: CrashBackoff?
    ) -> String {
        if endpoint.workersMax == 0 { return "at workersMax: it is 0, so no worker may start" }
        if decision.hold == .backingOff, let text = backoff?.explanation(at: now()) { return text }
        let starting = samples.filter { $0.activity == .starting }.map(\.id)
        if decision.start > 0 || !starting.isEmpty {
            let failures = backoff.flatMap { $0.failures > 0 ? $0.lastReason.map { "; the last one failed: \($0)" } : nil } ?? ""
            return "no worker yet: \(max(1, starting.count + decision.start)) starting\(failures)"
        }
        if !decision.thaw.isEmpty { return "no worker yet: \(decision.thaw.count) thawing" }
        if samples.filter({ $0.activity != .parked && $0.activity != .sparing }).count >= endpoint.workersMax {
            return "at workersMax: all \(samples.count) workers are busy"
        }
        if seen.queued == 0 { return "low priority: it starts no worker and waits for one that others start" }
        return "all workers are busy; another starts by the endpoint's scaler settings"
    }
}
