/// What the scaler saw of one endpoint at one moment.
package struct ScalingSample: Sendable, Equatable {
    package struct WorkerSample: Sendable, Equatable {
        package enum Activity: Sendable, Equatable {
            case starting
            case idle(since: Milliseconds)
            case busy
            /// Frozen; does not count against `workersMax`.
            case parked
            /// Starting, to be parked.
            case sparing
            /// On its way out; still counts against `workersMax`.
            case leaving
        }

        package var id: String
        package var activity: Activity
        package var isOutdated: Bool

        package init(id: String, activity: Activity, isOutdated: Bool = false) {
            self.id = id
            self.activity = activity
            self.isOutdated = isOutdated
        }
    }

    package var now: Milliseconds
    package var workersMin: Int
    package var workersMax: Int
    package var idleTimeout: Milliseconds
    package var scalerType: Endpoint.ScalerType
    package var scalerValue: Int
    /// Queued jobs that may start workers (low-priority ones may not).
    package var queued: Int
    /// When each of the longest-waiting of them came, oldest first; at most `workersMax` are needed.
    package var waitingSince: [Milliseconds]
    package var running: Int
    package var workers: [WorkerSample]
    package var backoffUntil: Milliseconds?
    /// Whether workers are parked instead of stopped, and how many are to be parked ahead of demand.
    package var parks: Bool
    package var spares: Int

    package init(
        now: Milliseconds, endpoint: Endpoint, queued: Int, waitingSince: [Milliseconds], running: Int,
        workers: [WorkerSample], backoffUntil: Milliseconds? = nil
    ) {
        self.now = now
        workersMin = endpoint.workersMin
        workersMax = endpoint.workersMax
        idleTimeout = Int64(endpoint.idleTimeout) * 1_000
        scalerType = endpoint.scalerType
        scalerValue = endpoint.scalerValue
        self.queued = queued
        self.waitingSince = waitingSince
        self.running = running
        self.workers = workers
        self.backoffUntil = backoffUntil
        parks = endpoint.flashboot && endpoint.workersMax > 0
        spares = parks ? endpoint.spareWorkers : 0
    }
}

/// The scaler's rule: a pure function from what was seen to what to do.
package struct ScalingDecision: Sendable, Equatable {
    /// Why no worker is started although one is wanted.
    package enum Hold: Sendable, Equatable {
        case atMaximum
        case backingOff
    }

    package var start = 0
    /// Workers to drain.
    package var stop: [String] = []
    /// Idle workers to park, and parked ones to use.
    package var park: [String] = []
    package var thaw: [String] = []
    /// Workers to start and park.
    package var startSpares = 0
    package var hold: Hold?
    /// When the answer may change by time alone.
    package var reconsiderAt: Milliseconds?

    package init(start: Int = 0, stop: [String] = [], hold: Hold? = nil, reconsiderAt: Milliseconds? = nil) {
        self.start = start
        self.stop = stop
        self.hold = hold
        self.reconsiderAt = reconsiderAt
    }

    package static func decide(_ sample: ScalingSample) -> ScalingDecision {
        var decision = ScalingDecision()
        decision.stopOutdated(sample)
        decision.stopIdle(sample)
        decision.stopSurplus(sample)
        decision.startMissing(sample)
        decision.refillSpares(sample)
        return decision
    }

    /// Idle workers of an old version go at once, busy ones once their jobs are done (draining waits for them).
    private mutating func stopOutdated(_ sample: ScalingSample) {
        stop += sample.workers.filter { $0.isOutdated && $0.activity != .leaving }.map(\.id)
        if !sample.parks { stop += sample.usableParked.map(\.id) }
    }

    private func isLeaving(_ id: String) -> Bool { stop.contains(id) || park.contains(id) }

    private mutating func stopIdle(_ sample: ScalingSample) {
        var spare = sample.live.count - max(sample.workersMin, wanted(sample))
        for (id, since) in sample.idle.sorted(by: { $0.since < $1.since }) where spare > 0 {
            if since + sample.idleTimeout <= sample.now {
                if sample.parks { park.append(id) } else { stop.append(id) }
                spare -= 1
            } else {
                reconsider(at: since + sample.idleTimeout)
            }
        }
    }

    /// More than `workersMax`, after it was lowered: first those that start, then idle, then busy ones.
    private mutating func stopSurplus(_ sample: ScalingSample) {
        let staying = sample.live.filter { !isLeaving($0.id) }
        let surplus = staying.count - sample.workersMax
        guard surplus > 0 else { return }
        stop += staying.sorted { $0.activity.rank < $1.activity.rank }.prefix(surplus).map(\.id)
    }

    private mutating func startMissing(_ sample: ScalingSample) {
        let staying = sample.live.filter { !isLeaving($0.id) }.count
        var missing = max(sample.workersMin, wanted(sample)) - staying
        guard missing > 0 else { return }
        let room = max(0, sample.workersMax - sample.workers.filter { !$0.activity.isAside }.count)
        // The ones parked last: their memory is warmest.
        thaw = sample.parks ? sample.usableParked.suffix(min(missing, room)).reversed().map(\.id) : []
        missing -= thaw.count
        // Spares on their way are used at once when they come.
        missing -= sample.workers.filter { $0.activity == .sparing && !$0.isOutdated }.count
        guard missing > 0 else { return }
        if let until = sample.backoffUntil, until > sample.now {
            hold = .backingOff
            reconsider(at: until)
            return
        }
        start = min(missing, max(0, room - thaw.count))
        if start < missing { hold = .atMaximum }
    }

    private mutating func refillSpares(_ sample: ScalingSample) {
        guard sample.spares > 0, sample.backoffUntil ?? 0 <= sample.now else { return }
        let sparing = sample.workers.filter { $0.activity == .sparing && !$0.isOutdated }.count
        startSpares = max(0, sample.spares - (sample.usableParked.count - thaw.count + park.count + sparing))
    }

    /// Workers the demand asks for.
    private mutating func wanted(_ sample: ScalingSample) -> Int {
        let live = sample.live
        switch sample.scalerType {
        case .requestCount:
            let demand = sample.queued + sample.running
            return (demand + sample.scalerValue - 1) / max(1, sample.scalerValue)
        case .queueDelay:
            guard sample.queued > 0 else { return 0 }
            guard !live.isEmpty else { return 1 }
            let delay = Int64(sample.scalerValue) * 1_000
            let overdue = sample.waitingSince.filter { $0 + delay <= sample.now }.count
            if let next = sample.waitingSince.first(where: { $0 + delay > sample.now }) { reconsider(at: next + delay) }
            let starting = live.filter { $0.activity == .starting }.count
            return live.count + max(0, overdue - starting)
        }
    }

    private mutating func reconsider(at time: Milliseconds) {
        reconsiderAt = min(reconsiderAt ?? time, time)
    }
}

extension ScalingSample {
    fileprivate var live: [WorkerSample] { workers.filter { $0.activity != .leaving && !$0.activity.isAside && !$0.isOutdated } }

    /// In the order they were parked.
    fileprivate var usableParked: [WorkerSample] { workers.filter { $0.activity == .parked && !$0.isOutdated } }

    fileprivate var idle: [(id: String, since: Milliseconds)] {
        live.compactMap { worker in
            if case .idle(let since) = worker.activity { return (worker.id, since) }
            return nil
        }
    }
}

extension ScalingSample.WorkerSample.Activity {
    /// Neither at work nor about to be.
    fileprivate var isAside: Bool { self == .parked || self == .sparing }

    fileprivate var rank: Int {
        switch self {
        case .starting, .parked, .sparing: 0
        case .idle: 1
        case .busy: 2
        case .leaving: 3
        }
    }
}
