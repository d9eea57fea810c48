/// One running container of an endpoint, as recorded: enough to adopt it or to clean up after it.
package struct Worker: Codable, Sendable, Equatable {
    package var id: String
    package var endpointID: String
    package var dataCenterID: String
    package var volumeID: String?
    package var gpuType: String?
    package var gpuCount: Int
    package var vcpus: Int
    package var memoryBytes: Int64
    package var diskBytes: Int64
    package var imageName: String
    package var imageID: String
    /// The endpoint's version it was started for.
    package var version: Int
    /// Hexadecimal SHA-256 of its token.
    package var tokenHash: String
    package var createdAt: Milliseconds
    /// Set once the container runs.
    package var startedAt: Milliseconds?
    /// Set at its first poll.
    package var readyAt: Milliseconds?
    /// Set while it is parked.
    package var parkedAt: Milliseconds?
    /// Started ahead of demand, and not used since.
    package var isSpare: Bool?
    /// How its last start went.
    package var start: StartRecord?
    /// Why placement put it there.
    package var placement: String
    /// The address it was told to reach Roost at.
    package var apiBase: String

    package init(
        id: String, endpointID: String, dataCenterID: String, volumeID: String?, gpuType: String?, gpuCount: Int,
        vcpus: Int, memoryBytes: Int64, diskBytes: Int64, imageName: String, imageID: String, version: Int,
        tokenHash: String, createdAt: Milliseconds, placement: String, apiBase: String
    ) {
        self.id = id
        self.endpointID = endpointID
        self.dataCenterID = dataCenterID
        self.volumeID = volumeID
        self.gpuType = gpuType
        self.gpuCount = gpuCount
        self.vcpus = vcpus
        self.memoryBytes = memoryBytes
        self.diskBytes = diskBytes
        self.imageName = imageName
        self.imageID = imageID
        self.version = version
        self.tokenHash = tokenHash
        self.createdAt = createdAt
        self.placement = placement
        self.apiBase = apiBase
    }
}

/// How a container ended.
package struct WorkerExit: Sendable, Equatable {
    package var code: Int
    package var signal: Int
    package var ranOutOfMemory: Bool

    package init(code: Int, signal: Int, ranOutOfMemory: Bool) {
        self.code = code
        self.signal = signal
        self.ranOutOfMemory = ranOutOfMemory
    }

    package func description(memoryBytes: Int64) -> String {
        if ranOutOfMemory {
            return "the worker ran out of memory (limit \(memoryBytes >> 20) MiB) and was killed by the kernel (OOM)"
        }
        return signal > 0 ? "the worker was killed by signal \(signal)" : "the worker exited with code \(code)"
    }
}

/// The pure state machine of a worker. Every event returns what to do; `WorkerService` does it.
package struct WorkerLifecycle: Sendable, Equatable {
    package enum Phase: Sendable, Equatable {
        /// Recorded; disk and container are being made.
        case creating
        /// The process runs and has not polled yet.
        case initializing(since: Milliseconds)
        case ready
        /// Frozen, until there is a job for it.
        case parked
        /// Gets no more jobs; waits for those it has.
        case draining
        /// SIGTERM was sent.
        case stopping(since: Milliseconds)
        /// SIGKILL was sent.
        case killed
        case gone
    }

    package enum Action: Sendable, Equatable {
        case none
        /// Give it no more jobs.
        case drain
        /// Send SIGTERM, then answer its polls with "no job".
        case terminate
        case kill
        /// Remove container and disk, give its jobs back.
        case destroy
    }

    package private(set) var phase: Phase = .creating
    /// Why it stops, once it does.
    package private(set) var stopReason: String?
    /// Whether it stops for a fault of its own making, though we stop it.
    package private(set) var isFaulty = false

    package init() {}

    /// A worker found running at start-up.
    package init(adoptedAt now: Milliseconds, isReady: Bool, isParked: Bool = false) {
        phase = isParked ? .parked : isReady ? .ready : .initializing(since: now)
    }

    package var isLive: Bool {
        switch phase {
        case .creating, .initializing, .ready, .parked: true
        case .draining, .stopping, .killed, .gone: false
        }
    }

    package mutating func started(at now: Milliseconds, hasJobs: Bool) -> Action {
        switch phase {
        case .creating:
            phase = .initializing(since: now)
            return .none
        case .draining: return hasJobs ? .none : terminate(at: now)
        default: return .none
        }
    }

    package mutating func polled() -> Bool {
        guard case .initializing = phase else { return false }
        phase = .ready
        return true
    }

    /// It was frozen. False when something else happened to it meanwhile.
    package mutating func parked() -> Bool {
        guard phase == .ready else { return false }
        phase = .parked
        return true
    }

    /// It goes on.
    package mutating func thawed() -> Bool {
        guard phase == .parked else { return false }
        phase = .ready
        return true
    }

    /// Stops it once its jobs are done.
    package mutating func drain(reason: String, hasJobs: Bool, at now: Milliseconds) -> Action {
        switch phase {
        case .creating:
            stopReason = reason
            phase = .draining
            return .drain
        // It cannot hear a SIGTERM, and has nothing to finish.
        case .parked: return condemn(reason: reason)
        case .initializing, .ready:
            stopReason = reason
            if !hasJobs { return terminate(at: now) }
            phase = .draining
            return .drain
        default: return .none
        }
    }

    package mutating func jobsDone(at now: Milliseconds) -> Action {
        guard phase == .draining else { return .none }
        return terminate(at: now)
    }

    /// Stops it now: a job ran too long, or must be taken away from it.
    package mutating func condemn(reason: String) -> Action {
        switch phase {
        case .killed, .gone: return .none
        default:
            stopReason = reason
            phase = .killed
            return .kill
        }
    }

    package mutating func graceOver() -> Action {
        guard case .stopping = phase else { return .none }
        phase = .killed
        return .kill
    }

    package mutating func initTimeout() -> Action {
        guard case .initializing = phase else { return .none }
        isFaulty = true
        return condemn(reason: "did not poll for a job within its init timeout")
    }

    /// Something it needs broke: it must go, and its jobs were harmed by it.
    package mutating func broke(_ reason: String) -> Action {
        switch phase {
        case .killed, .gone: return .none
        default:
            isFaulty = true
            return condemn(reason: reason)
        }
    }

    package mutating func exited() -> Action {
        guard phase != .gone else { return .none }
        phase = .gone
        return .destroy
    }

    private mutating func terminate(at now: Milliseconds) -> Action {
        phase = .stopping(since: now)
        return .terminate
    }
}
