import Resource

/// What clients of the job API ask for.
extension JobService {
    /// A reply to `/stream`, and how far it reaches.
    package struct StreamReply: Sendable {
        package var body: [UInt8]
        package var jobID: String
        package var through: Int?
    }

    /// Accepts a job: durable when this returns. A waiting worker gets it in the same transaction.
    package func submit(_ request: JobRequest, to endpoint: Endpoint, isSync: Bool) async throws -> String {
        guard !isStopping else { throw RoostError(.unavailable, "the server is stopping") }
        guard queues[endpoint.id]?.count ?? 0 < Limits.queuedJobs else {
            throw RoostError(.busy, "the queue of endpoint \(endpoint.id) is full: \(Limits.queuedJobs) jobs wait")
        }
        let time = now()
        let id = (isSync ? "sync-" : "") + Identifier.uuid() + "-u1"
        var job = Job(
            id: id, endpointID: endpoint.id, isSync: isSync, isLowPriority: request.isLowPriority, createdAt: time,
            expiresAt: time + request.timeToLive,
            executionTimeout: request.executionTimeout ?? Int64(endpoint.executionTimeoutMs),
            retention: isSync ? settings.syncRetention : settings.retention, webhook: request.webhook,
            lifecycle: JobLifecycle(queuedAt: time))
        let payload = try secrets.seal(request, job: id, standard: endpoint.objectStore)
        if let worker = reserveTaker(of: endpoint.id) {
            _ = job.lifecycle.lease(to: worker.id, at: time)
            job.coldStart = false
            do { try await store.insert(job, payload: payload) } catch {
                park(worker.parked, of: worker.id)
                throw error
            }
            begin(job, on: worker, payload: payload)
        } else {
            try await store.insert(job, payload: payload)
            let isSmall = payload.input.count + payload.extra.count <= 16 << 10
            live[id] = Live(job: job, payload: isSmall && live.count < 100_000 ? payload : nil)
            enqueue(job)
            schedule(.expiry(job: id), at: job.expiresAt)
            feed(endpoint.id)
            demand.signal(endpoint.id)
        }
        return id
    }

    /// The body of `/status`. It is put together outside the actor: outputs are large.
    package nonisolated func status(_ id: String, of endpoint: String) async throws -> [UInt8] {
        let record = try await find(id, of: endpoint)
        return JobView.body(record.job, result: record.result, reason: await waitReason(of: endpoint))
    }

    /// The same, once the job has ended or `wait` is over.
    package nonisolated func status(_ id: String, of endpoint: String, wait: Milliseconds) async throws -> [UInt8] {
        await waitForEnd(of: id, endpoint: endpoint, until: now() + wait)
        return try await status(id, of: endpoint)
    }

    private func waitForEnd(of id: String, endpoint: String, until time: Milliseconds) async {
        while let entry = live[id], entry.job.endpointID == endpoint, now() < time, !isStopping {
            await watch(id, until: time)
        }
    }

    private func waitReason(of endpoint: String) -> String { queues[endpoint]?.waitReason ?? "waiting for a worker" }

    /// Chunks not yet delivered. Held until there is one, the job has ended, or `wait` is over.
    package func stream(_ id: String, of endpoint: String, wait: Milliseconds) async throws -> StreamReply {
        let until = now() + wait
        while true {
            let record = try await find(id, of: endpoint)
            let chunks = try await store.chunks(of: id)
            let status = record.job.lifecycle.status
            if !chunks.isEmpty || status.isTerminal || now() >= until || isStopping {
                // A terminal status must come with the last chunks, so it is read before them.
                return StreamReply(body: JobView.stream(status, chunks: chunks), jobID: id, through: chunks.last?.sequence)
            }
            await watch(id, until: until)
        }
    }

    /// Called once a stream reply has been written to a live connection.
    package func delivered(_ reply: StreamReply) async throws {
        guard let through = reply.through else { return }
        try await store.removeChunks(of: reply.jobID, through: through)
        live[reply.jobID]?.backlogBytes = 0
    }

    package func cancel(_ id: String, of endpoint: String) async throws -> [UInt8] {
        let record = try await find(id, of: endpoint)
        if case .running(let worker, _) = record.job.lifecycle.phase, live[id] != nil { abandon(id, on: worker) }
        if try await !end(id, as: .cancelled, result: JobResult()) {
            let status = try await find(id, of: endpoint).job.lifecycle.status
            guard status == .cancelled else {
                throw RoostError(.invalid, "job \(id) cannot be cancelled: it is \(status.rawValue)")
            }
        }
        let ended = try await find(id, of: endpoint)
        return JobView.body(ended.job, result: JobResult())
    }

    /// From FAILED or TIMED_OUT back to the queue, with the same input and id.
    package func retry(_ id: String, of endpoint: Endpoint) async throws -> [UInt8] {
        var job = try await find(id, of: endpoint.id).job
        guard live[id] == nil, job.lifecycle.restart(at: now()) else {
            throw RoostError(.invalid, "job \(id) is \(job.lifecycle.status.rawValue); only FAILED and TIMED_OUT jobs can be retried")
        }
        let timeToLive = job.expiresAt - job.createdAt
        job.createdAt = now()
        job.expiresAt = now() + timeToLive
        live[id] = Live(job: job)
        do { try await store.update([job]) } catch {
            live[id] = nil
            throw error
        }
        enqueue(job)
        schedule(.expiry(job: id), at: job.expiresAt)
        feed(endpoint.id)
        demand.signal(endpoint.id)
        return JSON.object([.init("id", .string(id)), .init("status", "IN_QUEUE")]).bytes
    }

    /// Cancels what is queued; running jobs go on. Returns how many.
    package func purge(_ endpoint: String) async throws -> Int {
        // Looked at before the store is: a job accepted meanwhile comes after its transaction, and stays.
        let queued = live.filter { $0.value.job.endpointID == endpoint && $0.value.job.lifecycle.status == .inQueue }
        try await store.cancelQueued(of: endpoint, at: now())
        var removed = 0
        for (id, before) in queued {
            guard let entry = live[id], entry.job.lifecycle == before.job.lifecycle else { continue }
            live[id] = nil
            detach(entry.job)
            wake(id)
            removed += 1
        }
        demand.signal(endpoint)
        webhooks.signal(endpoint)
        return removed
    }

    /// Removes an endpoint's jobs altogether: the endpoint is being deleted.
    package func removeAll(of endpoint: String) async throws {
        for (id, entry) in live where entry.job.endpointID == endpoint {
            live[id] = nil
            detach(entry.job)
            wake(id)
        }
        queues[endpoint] = nil
        try await store.removeJobs(of: endpoint)
    }

    package func recent(of endpoint: String) async throws -> [UInt8] {
        let records = try await store.recentJobs(of: endpoint, limit: Limits.requestList)
        var out = Array("{\"requests\":[".utf8)
        for (index, record) in records.enumerated() {
            if index > 0 { out.append(UInt8(ascii: ",")) }
            out += JobView.body(live[record.job.id]?.job ?? record.job, result: JobResult(), reason: queues[endpoint]?.waitReason)
        }
        out += "]}".utf8
        return out
    }

    /// Numbers of `/health`: queued and running jobs, and the rolling totals.
    package func jobNumbers(of endpoint: String) async throws -> (queued: Int, running: Int, totals: JobCounters) {
        let totals = try await store.counters(of: endpoint)
        let queue = queues[endpoint]
        return (queue?.count ?? 0, queue?.running ?? 0, totals)
    }

    private func find(_ id: String, of endpoint: String) async throws -> JobRecord {
        if let entry = live[id] {
            guard entry.job.endpointID == endpoint else { throw unknown(id) }
            return JobRecord(job: entry.job, result: JobResult(output: entry.progress))
        }
        guard let record = try await store.record(of: id), record.job.endpointID == endpoint else { throw unknown(id) }
        if case .ended(_, _, let at) = record.job.lifecycle.phase, at + record.job.retention <= now() { throw unknown(id) }
        return record
    }

    private func unknown(_ id: String) -> RoostError {
        RoostError(.notFound, "job \(id.prefix(80)) not found: unknown, of another endpoint, or its retention is over")
    }

    private func watch(_ id: String, until time: Milliseconds) async {
        let token = token()
        schedule(.watch(job: id, token: token), at: time)
        await withCheckedContinuation { watchers[id, default: [:]][token] = $0 }
    }
}
