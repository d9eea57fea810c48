import Resource

/// What workers ask for and report.
extension JobService {
    /// How long polls of a worker that is stopping are held, so that it does not spin.
    private static let releasedHold: Milliseconds = 250

    struct Taker {
        var id: String
        var parked: WorkerSession.Parked<[[UInt8]]>
    }

    // MARK: - Polls

    /// `job-take`: up to `limit` jobs as JSON, or none once the poll was held long enough.
    package func take(worker: String, limit: Int, hasJobs: Bool) async throws -> [[UInt8]] {
        guard let session = sessions[worker] else { throw RoostError(.forbidden, "worker \(worker) is not known any more") }
        answerTake(worker, [])
        notePoll(worker, session)
        if !hasJobs { try await settleUnanswered(worker) }
        guard let current = sessions[worker] else { return [] }
        if !current.prepared.isEmpty {
            sessions[worker]?.prepared = []
            return current.prepared.map(\.handout)
        }
        if !current.isDraining && !current.isParked && current.preparing.isEmpty {
            let jobs = try await leaseQueued(to: worker, limit: limit)
            if !jobs.isEmpty { return jobs }
        }
        return await parkTake(worker, limit: limit)
    }

    /// `job-stop`: ids of jobs to stop, or none once the poll was held long enough.
    package func stopRequests(worker: String) async throws -> [String] {
        guard let session = sessions[worker] else { throw RoostError(.forbidden, "worker \(worker) is not known any more") }
        answerStop(worker, [])
        if !session.toStop.isEmpty {
            sessions[worker]?.toStop = []
            return session.toStop
        }
        let token = token()
        schedule(.stop(worker: worker, token: token), at: now() + (session.isReleased ? Self.releasedHold : settings.pollHold))
        return await withCheckedContinuation { sessions[worker]?.stop = .init(token: token, continuation: $0) }
    }

    package func ping(worker: String) { sessions[worker]?.lastPing = now() }

    private func notePoll(_ worker: String, _ session: WorkerSession) {
        guard !session.hasPolled else { return }
        sessions[worker]?.hasPolled = true
        sessions[worker]?.readySince = now()
        sessions[worker]?.idleSince = now()
        signals.yield(.ready(worker, at: .now))
    }

    private func parkTake(_ worker: String, limit: Int) async -> [[UInt8]] {
        let hold = sessions[worker]?.isReleased == true ? Self.releasedHold : settings.pollHold
        let token = token()
        schedule(.take(worker: worker, token: token), at: now() + hold)
        return await withCheckedContinuation { park(.init(token: token, continuation: $0, limit: limit), of: worker) }
    }

    func park(_ parked: WorkerSession.Parked<[[UInt8]]>, of worker: String) {
        guard let session = sessions[worker], session.take == nil else { return parked.continuation.resume(returning: []) }
        sessions[worker]?.take = parked
        settleIdle(worker)
        guard !session.isDraining else { return }
        guard !session.isParked else { return endParking(worker) }
        queues[session.endpointID, default: EndpointQueue()].addTaker(worker)
        feed(session.endpointID)
    }

    /// The SDK says it has no job, so what it was given before is either lost on the way or ended without an answer.
    private func settleUnanswered(_ worker: String) async throws {
        guard let session = sessions[worker] else { return }
        sessions[worker]?.leftovers = []
        let reason = "the worker asked for its next job without answering this one (was its output JSON-serialisable?)"
        for id in session.leases where !session.withholds(id) { try await lose(id, worker: worker, reason: reason) }
        settleIdle(worker)
    }

    // MARK: - Handing over

    /// A worker of the endpoint with a parked poll, when nothing else is queued; its poll is taken off the shelf.
    func reserveTaker(of endpoint: String) -> Taker? {
        guard queues[endpoint]?.count ?? 0 == 0 else { return nil }
        return popTaker(of: endpoint)
    }

    private func popTaker(of endpoint: String) -> Taker? {
        while let worker = queues[endpoint]?.popTaker() {
            guard let session = sessions[worker], let parked = session.take, session.isTakingJobs else { continue }
            sessions[worker]?.take = nil
            sessions[worker]?.idleSince = nil
            return Taker(id: worker, parked: parked)
        }
        return nil
    }

    /// Books a job whose lease is durable and hands it to the reserved poll.
    func begin(_ job: Job, on worker: Taker, payload: JobPayload) {
        live[job.id] = Live(job: job)
        queues[job.endpointID, default: EndpointQueue()].running += 1
        book(job, on: worker.id)
        note(.firstJob, of: worker.id)
        schedule(.expiry(job: job.id), at: job.expiresAt)
        if InputReferences.mayBe(in: payload.input) {
            prepare(job, payload, on: worker.id)
            park(worker.parked, of: worker.id)
        } else {
            worker.parked.continuation.resume(returning: [JobView.handout(job, payload: secrets.open(payload, job: job.id))])
        }
        if sessions[worker.id] == nil {
            // It died while the lease was written.
            Task { try await self.lose(job.id, worker: worker.id, reason: "the worker ended as it got the job") }
        }
    }

    private func book(_ job: Job, on worker: String) {
        guard case .running(_, let since) = job.lifecycle.phase else { return }
        sessions[worker]?.leases.insert(job.id)
        sessions[worker]?.idleSince = nil
        schedule(.execution(job: job.id, since: since), at: since + job.executionTimeout)
    }

    /// Gives queued jobs to parked polls.
    func feed(_ endpoint: String) {
        while queues[endpoint]?.count ?? 0 > 0, let taker = popTaker(of: endpoint) {
            let jobs = leaseInMemory(to: taker.id, endpoint: endpoint, limit: taker.parked.limit)
            // The durable part takes its time, and the caller has other things to do.
            Task {
                let handouts = (try? await self.commit(jobs, on: taker.id)) ?? []
                let isPreparing = handouts.isEmpty && self.sessions[taker.id]?.preparing.isEmpty == false
                if isPreparing { return self.park(taker.parked, of: taker.id) }
                taker.parked.continuation.resume(returning: handouts)
            }
            if jobs.isEmpty { return }
        }
    }

    private func leaseQueued(to worker: String, limit: Int) async throws -> [[UInt8]] {
        guard let endpoint = sessions[worker]?.endpointID else { return [] }
        return try await commit(leaseInMemory(to: worker, endpoint: endpoint, limit: limit), on: worker)
    }

    private func leaseInMemory(to worker: String, endpoint: String, limit: Int) -> [Job] {
        var jobs: [Job] = []
        while jobs.count < limit, let entry = queues[endpoint]?.next(isQueued) {
            guard var job = live[entry.id]?.job, job.lifecycle.lease(to: worker, at: now()) else { continue }
            job.coldStart = (sessions[worker]?.readySince ?? 0) >= entry.since
            note(.firstJob, of: worker)
            live[entry.id]?.job = job
            queues[endpoint]?.running += 1
            book(job, on: worker)
            jobs.append(job)
        }
        return jobs
    }

    private func isQueued(_ entry: EndpointQueue.Entry) -> Bool {
        live[entry.id]?.job.lifecycle.phase == .queued(since: entry.since)
    }

    /// Makes leases durable and fetches the payloads. When the store refuses, the jobs are queued again.
    private func commit(_ jobs: [Job], on worker: String) async throws -> [[UInt8]] {
        guard !jobs.isEmpty else { return [] }
        do {
            try await store.update(jobs)
            var handouts: [[UInt8]] = []
            for job in jobs {
                var payload = live[job.id]?.payload
                if payload == nil { payload = try await store.payload(of: job.id) }
                live[job.id]?.payload = nil
                guard let payload else { continue }
                if InputReferences.mayBe(in: payload.input) {
                    prepare(job, payload, on: worker)
                } else {
                    handouts.append(JobView.handout(job, payload: secrets.open(payload, job: job.id)))
                }
            }
            return handouts
        } catch {
            for job in jobs { requeue(job.id, from: worker) }
            throw error
        }
    }

    /// Has the inputs of a job fetched before its worker hears of it: a poll is not held so long, and whoever asks again
    /// would seem to have lost the job.
    private func prepare(_ job: Job, _ payload: JobPayload, on worker: String) {
        sessions[worker]?.preparing.insert(job.id)
        let folder = "\(job.id)-\(Identifier.make(length: 4))"
        sessions[worker]?.staged[job.id] = folder
        signals.yield(.prepare(worker, job: job, payload: secrets.open(payload, job: job.id), folder: folder))
    }

    /// The inputs of a job are there, or why not.
    package func prepared(_ id: String, worker: String, folder: String, payload: Result<JobPayload, RoostError>) async throws {
        // Another attempt may be on its way by now: then this one's files are of no use.
        guard sessions[worker]?.staged[id] == folder else { return _ = signals.yield(.unstage(worker, folder: folder)) }
        // It may have ended between its lease and here.
        guard var entry = live[id], entry.job.lifecycle.accepts(from: worker) else { return release(id, from: worker) }
        switch payload {
        case .failure(let error): try await end(id, as: .failed, result: .failure(error.message))
        case .success(let payload):
            sessions[worker]?.preparing.remove(id)
            entry.job.lifecycle.restartClock(at: now())
            live[id] = entry
            let since = entry.job.lifecycle.since
            schedule(.execution(job: id, since: since), at: since + entry.job.executionTimeout)
            let handout = JobView.handout(entry.job, payload: payload)
            if sessions[worker]?.take != nil {
                answerTake(worker, [handout])
            } else {
                sessions[worker]?.prepared.append((id, handout))
            }
            try await store.update([entry.job])
        }
    }

    private func requeue(_ id: String, from worker: String) {
        guard var job = live[id]?.job else { return }
        let before = job
        guard job.lifecycle.giveBack(worker: worker, at: now()) else { return }
        detach(before)
        live[id]?.job = job
        enqueue(job, atFront: true)
    }

    // MARK: - Results

    /// `job-done`. Late answers and answers to jobs of others are ignored; the worker gets a 2xx for all of them.
    /// Returns whether this one counted.
    @discardableResult
    package func done(worker: String, job id: String, report: WorkerReport?) async throws -> Bool {
        guard let session = sessions[worker] else { return false }
        if report?.wantsReplacement == true { signals.yield(.recycle(worker, reason: "the handler asked for a fresh worker")) }
        guard var entry = live[id], entry.job.lifecycle.accepts(from: worker) else {
            if session.leftovers.contains(id), report?.isProgress != true {
                sessions[worker]?.leftovers.remove(id)
                settleIdle(worker)
            }
            return false
        }
        guard let report else {
            return try await end(id, as: .failed, result: .failure("the worker sent a result that is not JSON"))
        }
        if report.isProgress {
            try await progress(id, report: report)
            return true
        }
        let result = checked(report)
        let before = entry.job
        let status: JobStatus = result.error == nil ? .completed : .failed
        guard entry.job.lifecycle.finish(status, by: worker, at: now()) else { return false }
        return try await commitEnd(of: entry, before: before, result: result)
    }

    /// Whether a worker's answer to a job would count now.
    package func holds(_ worker: String, job: String) -> Bool { live[job]?.job.lifecycle.accepts(from: worker) ?? false }

    package func endpoint(of job: String) -> String? { live[job]?.job.endpointID }

    /// A result too large to keep fails the job and says so: it is never lost silently.
    package func outputTooLarge(worker: String, job: String, bytes: Int?) async throws {
        guard live[job]?.job.lifecycle.accepts(from: worker) == true else { return }
        try await end(job, as: .failed, result: .failure(tooLargeText(bytes)))
    }

    private func checked(_ report: WorkerReport) -> JobResult {
        let bytes = (report.output?.count ?? 0) + (report.error?.count ?? 0)
        guard bytes <= settings.outputBytes else { return .failure(tooLargeText(bytes)) }
        return JobResult(output: report.output, error: report.error)
    }

    private func tooLargeText(_ bytes: Int?) -> String {
        "output too large: \(bytes.map { "\($0) bytes" } ?? "the result") over the limit of \(settings.outputBytes) bytes; "
            + "set the endpoint's 'largeData' to store:NAME or volume:ID, and outputs that large are put there and returned as a $ref"
    }

    private func progress(_ id: String, report: WorkerReport) async throws {
        let output = report.output ?? Array("null".utf8)
        guard output.count <= settings.outputBytes else { return }
        live[id]?.progress = output
        try await store.progress(id, output: output)
        wake(id)
    }

    /// `job-stream`: one chunk, in order.
    package func append(worker: String, job id: String, report: WorkerReport?) async throws {
        guard let entry = live[id], entry.job.lifecycle.accepts(from: worker), let chunk = report?.output ?? report?.error else {
            return
        }
        guard entry.backlogBytes + chunk.count <= Limits.streamBacklogBytes else {
            let text = "stream backlog over \(Limits.streamBacklogBytes) bytes: nobody reads /stream"
            abandon(id, on: worker)
            return _ = try await end(id, as: .failed, result: .failure(text))
        }
        live[id]?.chunkCount += 1
        live[id]?.backlogBytes += chunk.count
        try await store.append(chunk: chunk, sequence: entry.chunkCount + 1, to: id)
        wake(id)
    }

    // MARK: - Life of workers

    /// A worker is about to be made, or was found running.
    package func attach(_ worker: String, endpointID: String, hasPolled: Bool = false, isParked: Bool = false) {
        var session = WorkerSession(endpointID: endpointID)
        session.isParked = isParked
        session.hasPolled = hasPolled
        session.idleSince = hasPolled ? now() : nil
        sessions[worker] = session
    }

    /// Gives it no more jobs. Its polls stay parked, so that it does not spin.
    package func drain(_ worker: String) { sessions[worker]?.isDraining = true }

    /// SIGTERM was sent: the SDK exits once its polls are answered.
    package func release(_ worker: String) {
        sessions[worker]?.isDraining = true
        sessions[worker]?.isReleased = true
        answerTake(worker, [])
        answerStop(worker, [])
    }

    package func isBusy(_ worker: String) -> Bool { sessions[worker]?.isBusy ?? false }

    /// The worker is gone. Its jobs are tried again, or fail with the reason; jobs it lost through no fault of theirs
    /// (`isPlanned`) go back as they were.
    package func detach(_ worker: String, reason: String, isPlanned: Bool) async throws {
        guard let session = sessions[worker] else { return }
        answerTake(worker, [])
        answerStop(worker, [])
        endParking(worker)
        sessions[worker] = nil
        for id in session.leases {
            if isPlanned {
                requeue(id, from: worker)
                if let job = live[id]?.job { try await store.update([job]) }
            } else {
                try await lose(id, worker: worker, reason: reason)
            }
        }
        feed(session.endpointID)
        demand.signal(session.endpointID)
    }

    func lose(_ id: String, worker: String, reason: String) async throws {
        guard var entry = live[id] else { return }
        let before = entry.job
        switch entry.job.lifecycle.lose(worker: worker, reason: reason, limit: settings.retries, at: now()) {
        case .ignored: return
        case .failed(let text):
            log.warning("job lost", metadata: ["job_id": "\(id)", "worker_id": "\(worker)", "error": "\(reason)"])
            _ = try await commitEnd(of: entry, before: before, result: .failure(text))
        case .requeued:
            log.info("job tried again", metadata: ["job_id": "\(id)", "worker_id": "\(worker)", "error": "\(reason)"])
            detach(before)
            entry.progress = nil
            entry.chunkCount = 0
            live[id] = entry
            enqueue(entry.job, atFront: true)
            try await store.update([entry.job])
            feed(before.endpointID)
            demand.signal(before.endpointID)
        }
    }

    // MARK: - For the scaler

    /// How an endpoint's workers and queue look now.
    package struct Demand: Sendable {
        package var queued: Int
        package var waitingSince: [Milliseconds]
        package var running: Int
        /// Of each worker that has polled and is not busy, since when.
        package var idleSince: [String: Milliseconds]
        package var hasAnyQueued: Bool
        package var lastPing: [String: Milliseconds]
    }

    package func demand(of endpoint: String, limit: Int) -> Demand {
        let queue = queues[endpoint]
        var (idle, pings) = ([String: Milliseconds](), [String: Milliseconds]())
        for (id, session) in sessions where session.endpointID == endpoint {
            pings[id] = session.lastPing
            if session.hasPolled && !session.isBusy { idle[id] = session.idleSince }
        }
        return Demand(
            queued: queue?.normalCount ?? 0, waitingSince: queue?.waitingSince(limit: limit, isQueued) ?? [],
            running: queue?.running ?? 0, idleSince: idle, hasAnyQueued: queue?.count ?? 0 > 0, lastPing: pings)
    }

    package func setWaitReason(_ reason: String?, of endpoint: String) {
        guard queues[endpoint] != nil || reason != nil else { return }
        queues[endpoint, default: EndpointQueue()].waitReason = reason
    }
}
