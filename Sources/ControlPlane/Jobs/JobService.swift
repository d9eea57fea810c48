import Logging
import Resource

/// Bounds of the job API that configuration may change.
package struct JobSettings: Sendable {
    package var outputBytes = Limits.runsyncBodyBytes
    package var retention = Limits.retention
    package var syncRetention = Limits.syncRetention
    package var retries = Limits.retries
    package var cancelGrace = Limits.cancelGrace
    package var pollHold = Limits.pollHold

    package init() {}
}

/// The queue: takes jobs, hands them to workers, takes their results. Every answer is durable before it is given.
///
/// Memory holds what is not ended, without payloads; the store holds everything. State changes in memory first, without
/// a suspension between looking and changing; then the store writes it; then somebody is told.
package actor JobService {
    struct Live {
        var job: Job
        var progress: [UInt8]?
        /// Kept for jobs small enough, until they are handed over.
        var payload: JobPayload?
        /// The sequence of its last chunk.
        var chunkCount = 0
        var backlogBytes = 0
    }

    enum Deadline: Sendable {
        case expiry(job: String)
        case execution(job: String, since: Milliseconds)
        case leftover(worker: String, job: String)
        case remind(worker: String, job: String)
        case take(worker: String, token: Int)
        case stop(worker: String, token: Int)
        case watch(job: String, token: Int)
        case parking(worker: String, token: Int)
    }

    let store: any Store
    let settings: JobSettings
    nonisolated let secrets: JobSecrets
    nonisolated let now: @Sendable () -> Milliseconds
    let log: Logger
    /// Endpoints whose demand changed.
    let demand: Wakeups
    /// Signalled when a webhook is to be delivered.
    let webhooks: Wakeups
    /// Endpoints of which a job completed.
    package nonisolated let completed = Wakeups()
    let signals: AsyncStream<WorkerSignal>.Continuation

    var live: [String: Live] = [:]
    var queues: [String: EndpointQueue] = [:]
    var sessions: [String: WorkerSession] = [:]
    var watchers: [String: [Int: CheckedContinuation<Void, Never>]] = [:]
    var deadlines = DeadlineHeap<Deadline>()
    private var nextToken = 0
    private var sleeper: (task: Task<Void, Never>, until: Milliseconds)?
    private(set) var isStopping = false

    package init(
        store: any Store, settings: JobSettings, secrets: JobSecrets, demand: Wakeups, webhooks: Wakeups,
        signals: AsyncStream<WorkerSignal>.Continuation, now: @escaping @Sendable () -> Milliseconds, log: Logger
    ) {
        self.store = store
        self.settings = settings
        self.secrets = secrets
        self.demand = demand
        self.webhooks = webhooks
        self.signals = signals
        self.now = now
        self.log = log
    }

    /// Reads what is not ended. Jobs of workers not in `adopted` go back to the queue. Returns what it found.
    package func restore(adopted: [Worker]) async throws -> (queued: Int, running: Int, returned: Int) {
        for worker in adopted {
            attach(worker.id, endpointID: worker.endpointID, hasPolled: worker.readyAt != nil, isParked: worker.parkedAt != nil)
        }
        var counts = (queued: 0, running: 0, returned: 0)
        var returned: [Job] = []
        for var job in try await store.liveJobs() {
            if case .running(let worker, let since) = job.lifecycle.phase {
                if sessions[worker] != nil {
                    counts.running += 1
                    resume(job, on: worker, since: since)
                    live[job.id]?.chunkCount = try await store.chunks(of: job.id).last?.sequence ?? 0
                    continue
                }
                _ = job.lifecycle.giveBack(worker: worker, at: now())
                returned.append(job)
                counts.returned += 1
            }
            counts.queued += 1
            live[job.id] = Live(job: job)
            enqueue(job)
            schedule(.expiry(job: job.id), at: job.expiresAt)
        }
        if !returned.isEmpty { try await store.update(returned) }
        return counts
    }

    private func resume(_ job: Job, on worker: String, since: Milliseconds) {
        live[job.id] = Live(job: job)
        queues[job.endpointID, default: EndpointQueue()].running += 1
        sessions[worker]?.leases.insert(job.id)
        sessions[worker]?.idleSince = nil
        schedule(.execution(job: job.id, since: since), at: since + job.executionTimeout)
        schedule(.expiry(job: job.id), at: job.expiresAt)
    }

    // MARK: - Time

    /// Fires deadlines until cancelled.
    package func run() async {
        while !Task.isCancelled {
            await fireDue()
            let until = deadlines.next ?? now() + 3_600_000
            let delay = max(1, until - now())
            let task = Task { _ = try? await Task.sleep(for: .milliseconds(delay)) }
            sleeper = (task, until)
            await withTaskCancellationHandler {
                await task.value
            } onCancel: {
                task.cancel()
            }
            sleeper = nil
        }
    }

    func schedule(_ deadline: Deadline, at time: Milliseconds) {
        deadlines.add(deadline, at: time)
        // Jobs end long before their deadlines: without this a day of jobs would stay in memory.
        if deadlines.count > 4 * (live.count + sessions.count) + 10_000 { deadlines.prune(keeping: isNeeded) }
        if let sleeper, time < sleeper.until { sleeper.task.cancel() }
    }

    /// Deadlines in memory, those of ended jobs included.
    package var pendingDeadlines: Int { deadlines.count }

    private func isNeeded(_ deadline: Deadline) -> Bool {
        switch deadline {
        case .expiry(let job): live[job] != nil
        case .execution(let job, let since): live[job]?.job.lifecycle.since == since
        case .leftover(let worker, let job), .remind(let worker, let job): sessions[worker]?.leftovers.contains(job) == true
        case .take(let worker, let token): sessions[worker]?.take?.token == token
        case .stop(let worker, let token): sessions[worker]?.stop?.token == token
        case .watch(let job, let token): watchers[job]?[token] != nil
        case .parking(let worker, _): sessions[worker]?.parking != nil
        }
    }

    func token() -> Int {
        nextToken += 1
        return nextToken
    }

    private func fireDue() async {
        while let deadline = deadlines.popDue(at: now()) {
            switch deadline {
            case .expiry(let job): await expire(job)
            case .execution(let job, let since): await timeOut(job, since: since)
            case .leftover(let worker, let job): replaceIfStuck(worker, job: job)
            case .remind(let worker, let job):
                if sessions[worker]?.leftovers.contains(job) == true { tellToStop(job, worker) }
            case .take(let worker, let token):
                if sessions[worker]?.take?.token == token { answerTake(worker, []) }
            case .stop(let worker, let token):
                if sessions[worker]?.stop?.token == token { answerStop(worker, []) }
            case .watch(let job, let token): watchers[job]?.removeValue(forKey: token)?.resume()
            case .parking(let worker, _): endParking(worker)
            }
        }
    }

    /// Its time to live is over: it is removed in whatever state.
    private func expire(_ id: String) async {
        guard let entry = live[id] else { return }
        do {
            if case .running(let worker, _) = entry.job.lifecycle.phase { abandon(id, on: worker) }
            detach(entry.job)
            live[id] = nil
            try await store.removeJob(id)
        } catch {
            log.error("failed to remove an expired job", metadata: ["job_id": "\(id)", "error": "\(error)"])
        }
        wake(id)
        demand.signal(entry.job.endpointID)
    }

    private func timeOut(_ id: String, since: Milliseconds) async {
        guard let entry = live[id], case .running(let worker, since) = entry.job.lifecycle.phase else { return }
        let text = "execution timeout: the job ran longer than \(entry.job.executionTimeout) ms"
        do {
            let isWithheld = sessions[worker]?.withholds(id) ?? false
            try await end(id, as: .timedOut, result: .failure(text))
            if !isWithheld { signals.yield(.condemn(worker, reason: text)) }
        } catch {
            log.error("failed to time out a job", metadata: ["job_id": "\(id)", "error": "\(error)"])
            schedule(.execution(job: id, since: since), at: now() + 1_000)
        }
    }

    /// A worker that still holds a cancelled job cannot be stopped any other way: the SDK blocks in sync handlers.
    private func replaceIfStuck(_ worker: String, job: String) {
        guard let session = sessions[worker], session.leftovers.contains(job) else { return }
        let reason = "still busy with the cancelled job \(job)"
        signals.yield(session.leases.isEmpty ? .condemn(worker, reason: reason) : .recycle(worker, reason: reason))
    }

    /// Answers everybody who waits, so that connections can close.
    package func stop() {
        isStopping = true
        for (_, waiting) in watchers { for continuation in waiting.values { continuation.resume() } }
        watchers = [:]
    }

    // MARK: - Bookkeeping shared by the extensions

    func enqueue(_ job: Job, atFront: Bool = false) {
        guard case .queued(let since) = job.lifecycle.phase else { return }
        queues[job.endpointID, default: EndpointQueue()]
            .append(job.id, since: since, isLow: job.isLowPriority, atFront: atFront)
    }

    /// Takes a job that is about to end or go out of the queue's or its worker's books.
    func detach(_ job: Job) {
        switch job.lifecycle.phase {
        case .queued: queues[job.endpointID]?.forget(isLow: job.isLowPriority)
        case .running(let worker, _):
            queues[job.endpointID]?.running -= 1
            release(job.id, from: worker)
        case .ended: break
        }
    }

    func release(_ job: String, from worker: String) {
        guard sessions[worker] != nil else { return }
        sessions[worker]?.leases.remove(job)
        sessions[worker]?.prepared.removeAll { $0.id == job }
        let wasPreparing = sessions[worker]?.preparing.remove(job) != nil
        if let folder = sessions[worker]?.staged.removeValue(forKey: job) { signals.yield(.unstage(worker, folder: folder)) }
        settleIdle(worker)
        if wasPreparing { offer(worker) }
    }

    /// Makes the poll of a worker good for jobs, which it was not for a while.
    func offer(_ worker: String) {
        guard let session = sessions[worker], session.take != nil, session.isTakingJobs else { return }
        queues[session.endpointID, default: EndpointQueue()].addTaker(worker)
        // Whoever let the job go may still be writing that down.
        Task { self.feed(session.endpointID) }
    }

    /// Our side is done with the job; the worker may not be.
    func abandon(_ job: String, on worker: String) {
        guard let session = sessions[worker], !session.withholds(job) else { return }
        sessions[worker]?.leftovers.insert(job)
        schedule(.leftover(worker: worker, job: job), at: now() + settings.cancelGrace)
        tellToStop(job, worker)
    }

    /// Again every second until the worker is rid of the job: the SDK ignores the id of a job that it has taken but
    /// not begun.
    private func tellToStop(_ job: String, _ worker: String) {
        sessions[worker]?.toStop.append(job)
        schedule(.remind(worker: worker, job: job), at: now() + 1_000)
        if let session = sessions[worker], session.stop != nil { answerStop(worker, session.toStop) }
    }

    func settleIdle(_ worker: String) {
        guard let session = sessions[worker], !session.isBusy else { return }
        if session.idleSince == nil { sessions[worker]?.idleSince = now() }
        signals.yield(.released(worker))
        demand.signal(session.endpointID)
    }

    func answerTake(_ worker: String, _ jobs: [[UInt8]]) {
        guard let parked = sessions[worker]?.take else { return }
        sessions[worker]?.take = nil
        parked.continuation.resume(returning: jobs)
    }

    func answerStop(_ worker: String, _ ids: [String]) {
        guard let parked = sessions[worker]?.stop else { return }
        sessions[worker]?.stop = nil
        sessions[worker]?.toStop = []
        parked.continuation.resume(returning: ids)
    }

    func wake(_ job: String) {
        guard let waiting = watchers.removeValue(forKey: job) else { return }
        for continuation in waiting.values { continuation.resume() }
    }

    /// Ends a job that is live, durably. False when it had ended before.
    @discardableResult
    func end(_ id: String, as status: JobStatus, result: JobResult) async throws -> Bool {
        guard var entry = live[id] else { return false }
        let before = entry.job
        guard entry.job.lifecycle.stop(status, at: now()) else { return false }
        return try await commitEnd(of: entry, before: before, result: result)
    }

    /// The last step of every end. When the store refuses, the job is what it was before.
    func commitEnd(of entry: Live, before: Job, result: JobResult) async throws -> Bool {
        let id = entry.job.id
        live[id] = entry
        do { try await store.finish(entry.job, result: result) } catch {
            guard live[id] != nil else { throw error }
            live[id]?.job = before
            if case .queued = before.lifecycle.phase {
                // Its entry may have been dropped meanwhile.
                queues[before.endpointID]?.forget(isLow: before.isLowPriority)
                enqueue(before, atFront: true)
            }
            throw error
        }
        live[id] = nil
        if case .running(let worker, _) = before.lifecycle.phase { note(.firstResult, of: worker) }
        detach(before)
        wake(id)
        demand.signal(before.endpointID)
        if before.webhook != nil { webhooks.signal(id) }
        if entry.job.lifecycle.status == .completed { completed.signal(before.endpointID) }
        return true
    }
}
