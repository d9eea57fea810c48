/// The states a client sees. RunPod's names.
package enum JobStatus: String, Sendable, CaseIterable {
    case inQueue = "IN_QUEUE"
    case inProgress = "IN_PROGRESS"
    case completed = "COMPLETED"
    case failed = "FAILED"
    case cancelled = "CANCELLED"
    case timedOut = "TIMED_OUT"

    package var isTerminal: Bool { self != .inQueue && self != .inProgress }
}

/// One request, without its payloads: what the queue keeps in memory.
package struct Job: Sendable, Equatable {
    package var id: String
    package var endpointID: String
    package var isSync: Bool
    package var isLowPriority: Bool
    package var createdAt: Milliseconds
    /// When it is removed, in whatever state.
    package var expiresAt: Milliseconds
    package var executionTimeout: Milliseconds
    /// How long it can be read once finished.
    package var retention: Milliseconds
    package var webhook: String?
    package var lifecycle: JobLifecycle
    /// Whether it waited for its worker to start or to thaw; nil before it has one.
    package var coldStart: Bool?

    package init(
        id: String, endpointID: String, isSync: Bool, isLowPriority: Bool, createdAt: Milliseconds,
        expiresAt: Milliseconds, executionTimeout: Milliseconds, retention: Milliseconds, webhook: String?,
        lifecycle: JobLifecycle
    ) {
        self.id = id
        self.endpointID = endpointID
        self.isSync = isSync
        self.isLowPriority = isLowPriority
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.executionTimeout = executionTimeout
        self.retention = retention
        self.webhook = webhook
        self.lifecycle = lifecycle
    }
}

/// The pure state machine of a job. It decides; `JobService` writes down and performs.
package struct JobLifecycle: Sendable, Equatable {
    package enum Phase: Sendable, Equatable {
        case queued(since: Milliseconds)
        case running(worker: String, since: Milliseconds)
        case ended(JobStatus, worker: String?, at: Milliseconds)
    }

    /// What a lost worker means for its job.
    package enum LossOutcome: Equatable {
        case requeued
        case failed(reason: String)
        case ignored
    }

    package private(set) var phase: Phase
    /// How often it was handed to a worker again after a loss.
    package private(set) var retries: Int
    /// From queued to handed over, of the last attempt.
    package private(set) var delay: Milliseconds?
    package private(set) var execution: Milliseconds?

    package init(queuedAt: Milliseconds) {
        phase = .queued(since: queuedAt)
        retries = 0
    }

    package init(phase: Phase, retries: Int, delay: Milliseconds?, execution: Milliseconds?) {
        self.phase = phase
        self.retries = retries
        self.delay = delay
        self.execution = execution
    }

    package var status: JobStatus {
        switch phase {
        case .queued: .inQueue
        case .running: .inProgress
        case .ended(let status, _, _): status
        }
    }

    package var worker: String? {
        switch phase {
        case .queued: nil
        case .running(let worker, _): worker
        case .ended(_, let worker, _): worker
        }
    }

    /// Hands it to a worker. False when it is not queued any more.
    package mutating func lease(to worker: String, at now: Milliseconds) -> Bool {
        guard case .queued(let since) = phase else { return false }
        delay = max(0, now - since)
        phase = .running(worker: worker, since: now)
        return true
    }

    /// Lets the time of the run count from now: what came before was ours, not the worker's.
    package mutating func restartClock(at now: Milliseconds) {
        if case .running(let worker, _) = phase { phase = .running(worker: worker, since: now) }
    }

    /// Whether a result or progress from `worker` counts: only the worker that holds the lease may say anything.
    package func accepts(from worker: String) -> Bool {
        if case .running(worker, _) = phase { return true }
        return false
    }

    /// The holder's answer. False when it is late.
    package mutating func finish(_ status: JobStatus, by worker: String, at now: Milliseconds) -> Bool {
        guard accepts(from: worker) else { return false }
        end(status, at: now)
        return true
    }

    /// Cancels, times out or fails it from our side. False when it has ended before.
    package mutating func stop(_ status: JobStatus, at now: Milliseconds) -> Bool {
        guard !self.status.isTerminal else { return false }
        end(status, at: now)
        return true
    }

    /// Its worker is gone without an answer.
    package mutating func lose(worker: String, reason: String, limit: Int, at now: Milliseconds) -> LossOutcome {
        guard accepts(from: worker) else { return .ignored }
        guard retries < limit else {
            end(.failed, at: now)
            return .failed(reason: "job lost after \(retries) \(retries == 1 ? "retry" : "retries"): \(reason)")
        }
        retries += 1
        phase = .queued(since: now)
        return .requeued
    }

    /// Gives it back unharmed: the worker never had it, or the server stopped it for reasons of its own.
    package mutating func giveBack(worker: String, at now: Milliseconds) -> Bool {
        guard accepts(from: worker) else { return false }
        phase = .queued(since: now)
        return true
    }

    /// `/retry`: from FAILED or TIMED_OUT back to the queue.
    package mutating func restart(at now: Milliseconds) -> Bool {
        guard status == .failed || status == .timedOut else { return false }
        self = JobLifecycle(queuedAt: now)
        return true
    }

    private mutating func end(_ status: JobStatus, at now: Milliseconds) {
        if case .running(_, let since) = phase { execution = max(0, now - since) }
        phase = .ended(status, worker: worker, at: now)
    }
}
