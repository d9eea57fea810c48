import Foundation
import GRDB
import Resource

extension SQLiteStore {
    package func insert(_ job: Job, payload: JobPayload) async throws {
        let input = Data(payload.input)
        let extra = Data(payload.extra)
        try await write { database in
            let lifecycle = job.lifecycle
            try database.cachedStatement(
                sql: """
                    INSERT INTO job (id, endpoint, status, is_sync, is_low_priority, created_at, expires_at,
                        execution_timeout, retention, webhook, worker, since, retries, delay, cold_start, input, extra)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """
            ).execute(arguments: [
                job.id, job.endpointID, lifecycle.status.rawValue, job.isSync, job.isLowPriority, job.createdAt,
                job.expiresAt, job.executionTimeout, job.retention, job.webhook, lifecycle.worker, lifecycle.since,
                lifecycle.retries, lifecycle.delay, job.coldStart, input, extra,
            ])
        }
    }

    package func update(_ jobs: [Job]) async throws {
        try await write { database in
            for job in jobs { try Self.update(database, job) }
        }
    }

    private static func update(_ database: Database, _ job: Job) throws {
        let lifecycle = job.lifecycle
        let clears = lifecycle.status == .inQueue
        try database.cachedStatement(
            sql: """
                UPDATE job SET status = ?, worker = ?, since = ?, retries = ?, delay = ?, execution = ?, cold_start = ?, remove_at = NULL,
                    created_at = ?, expires_at = ?, output = CASE WHEN ? THEN NULL ELSE output END, error = CASE WHEN ? THEN NULL ELSE error END
                WHERE id = ?
                """
        ).execute(arguments: [
            lifecycle.status.rawValue, lifecycle.worker, lifecycle.since, lifecycle.retries, lifecycle.delay,
            lifecycle.execution, job.coldStart, job.createdAt, job.expiresAt, clears, clears, job.id,
        ])
        if clears {
            try database.cachedStatement(sql: "DELETE FROM chunk WHERE job = ?").execute(arguments: [job.id])
            try count(database, endpoint: job.endpointID, retried: 1)
        }
    }

    package func finish(_ job: Job, result: JobResult) async throws {
        let output = result.output.map { Data($0) }
        let error = result.error.map { Data($0) }
        try await write { database in
            let lifecycle = job.lifecycle
            try database.cachedStatement(
                sql: """
                    UPDATE job SET status = ?, worker = ?, since = ?, retries = ?, delay = ?, execution = ?, remove_at = ?,
                        output = ?, error = ? WHERE id = ?
                    """
            ).execute(arguments: [
                lifecycle.status.rawValue, lifecycle.worker, lifecycle.since, lifecycle.retries, lifecycle.delay,
                lifecycle.execution, lifecycle.since + job.retention, output, error, job.id,
            ])
            if let url = job.webhook {
                try database.cachedStatement(sql: "INSERT INTO webhook (job, url, tries, due_at) VALUES (?, ?, 0, ?)")
                    .execute(arguments: [job.id, url, lifecycle.since])
            }
            let isCompleted = lifecycle.status == .completed
            let isFailed = lifecycle.status == .failed || lifecycle.status == .timedOut
            if isCompleted || isFailed {
                try Self.count(database, endpoint: job.endpointID, completed: isCompleted ? 1 : 0, failed: isFailed ? 1 : 0)
            }
        }
    }

    private static func count(
        _ database: Database, endpoint: String, completed: Int = 0, failed: Int = 0, retried: Int = 0
    ) throws {
        try database.cachedStatement(
            sql: """
                INSERT INTO counter (endpoint, completed, failed, retried) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                    completed = completed + excluded.completed, failed = failed + excluded.failed,
                    retried = retried + excluded.retried
                """
        ).execute(arguments: [endpoint, completed, failed, retried])
    }

    package func progress(_ id: String, output: [UInt8]) async throws {
        let body = Data(output)
        try await write { database in
            try database.cachedStatement(sql: "UPDATE job SET output = ? WHERE id = ? AND remove_at IS NULL")
                .execute(arguments: [body, id])
        }
    }

    package func liveJobs() async throws -> [Job] {
        try await read { database in
            try Row.fetchAll(database, sql: "SELECT \(Self.columns) FROM job WHERE remove_at IS NULL ORDER BY number")
                .map(Self.job)
        }
    }

    package func payload(of id: String) async throws -> JobPayload? {
        try await read { database in
            try Row.fetchOne(database, sql: "SELECT input, extra FROM job WHERE id = ?", arguments: [id]).map {
                JobPayload(input: [UInt8]($0["input"] as Data), extra: [UInt8]($0["extra"] as Data))
            }
        }
    }

    package func record(of id: String) async throws -> JobRecord? {
        try await read { database in
            try Row.fetchOne(
                database, sql: "SELECT \(Self.columns), output, error FROM job WHERE id = ?", arguments: [id]
            ).map(Self.record)
        }
    }

    package func recentJobs(of endpoint: String, limit: Int) async throws -> [JobRecord] {
        try await read { database in
            try Row.fetchAll(
                database,
                sql: """
                    SELECT \(Self.columns), NULL AS output, NULL AS error FROM job WHERE endpoint = ?
                    ORDER BY number DESC LIMIT ?
                    """,
                arguments: [endpoint, limit]
            ).map(Self.record)
        }
    }

    package func cancelQueued(of endpoint: String, at now: Milliseconds) async throws {
        try await write { database in
            try database.execute(
                sql: """
                    INSERT INTO webhook (job, url, tries, due_at)
                    SELECT id, webhook, 0, ? FROM job WHERE endpoint = ? AND status = 'IN_QUEUE' AND webhook IS NOT NULL
                    """, arguments: [now, endpoint])
            try database.execute(
                sql: """
                    UPDATE job SET status = 'CANCELLED', since = ?, remove_at = ? + retention
                    WHERE endpoint = ? AND status = 'IN_QUEUE'
                    """, arguments: [now, now, endpoint])
        }
    }

    package func removeJob(_ id: String) async throws {
        try await write { database in
            try database.cachedStatement(sql: "DELETE FROM job WHERE id = ?").execute(arguments: [id])
            try database.cachedStatement(sql: "DELETE FROM chunk WHERE job = ?").execute(arguments: [id])
            try database.cachedStatement(sql: "DELETE FROM webhook WHERE job = ?").execute(arguments: [id])
        }
    }

    package func removeJobs(of endpoint: String) async throws {
        try await write { database in
            for table in ["chunk", "webhook"] {
                try database.execute(
                    sql: "DELETE FROM \(table) WHERE job IN (SELECT id FROM job WHERE endpoint = ?)", arguments: [endpoint])
            }
            try database.execute(sql: "DELETE FROM job WHERE endpoint = ?", arguments: [endpoint])
            try database.execute(sql: "DELETE FROM counter WHERE endpoint = ?", arguments: [endpoint])
        }
    }

    /// A job with an undelivered webhook stays a little longer: the webhook's body is made from it.
    package func sweep(at now: Milliseconds) async throws -> Int {
        let due = try await read { database in
            try String.fetchAll(
                database,
                sql: """
                    SELECT id FROM job WHERE remove_at <= ? AND id NOT IN (SELECT job FROM webhook) LIMIT 1000
                    """, arguments: [now])
        }
        guard !due.isEmpty else { return 0 }
        try await write { database in
            for id in due {
                // It may have been queued anew since it was read.
                try database.cachedStatement(sql: "DELETE FROM job WHERE id = ? AND remove_at <= ?").execute(arguments: [id, now])
                if database.changesCount == 0 { continue }
                try database.cachedStatement(sql: "DELETE FROM chunk WHERE job = ?").execute(arguments: [id])
            }
        }
        return due.count
    }

    package func counters(of endpoint: String) async throws -> JobCounters {
        try await read { database in
            let row = try Row.fetchOne(
                database, sql: "SELECT completed, failed, retried FROM counter WHERE endpoint = ?", arguments: [endpoint])
            return row.map { JobCounters(completed: $0["completed"], failed: $0["failed"], retried: $0["retried"]) }
                ?? JobCounters()
        }
    }

    // MARK: - Chunks

    package func append(chunk: [UInt8], sequence: Int, to id: String) async throws {
        let body = Data(chunk)
        try await write { database in
            try database.cachedStatement(sql: "INSERT OR REPLACE INTO chunk (job, sequence, body) VALUES (?, ?, ?)")
                .execute(arguments: [id, sequence, body])
        }
    }

    package func chunks(of id: String) async throws -> [StreamChunk] {
        try await read { database in
            try Row.fetchAll(
                database, sql: "SELECT sequence, body FROM chunk WHERE job = ? ORDER BY sequence", arguments: [id]
            ).map { StreamChunk(sequence: $0["sequence"], bytes: [UInt8]($0["body"] as Data)) }
        }
    }

    package func removeChunks(of id: String, through sequence: Int) async throws {
        try await write { database in
            try database.cachedStatement(sql: "DELETE FROM chunk WHERE job = ? AND sequence <= ?")
                .execute(arguments: [id, sequence])
        }
    }

    // MARK: - Webhooks

    package func dueWebhooks(at now: Milliseconds, limit: Int) async throws -> [WebhookDelivery] {
        try await read { database in
            try Row.fetchAll(
                database, sql: "SELECT id, job, url, tries FROM webhook WHERE due_at <= ? ORDER BY due_at LIMIT ?",
                arguments: [now, limit]
            ).map { WebhookDelivery(id: $0["id"], jobID: $0["job"], url: $0["url"], tries: $0["tries"]) }
        }
    }

    package func nextWebhook() async throws -> Milliseconds? {
        try await read { try Int64.fetchOne($0, sql: "SELECT MIN(due_at) FROM webhook") }
    }

    package func postpone(_ webhook: WebhookDelivery, until time: Milliseconds) async throws {
        try await write { database in
            try database.cachedStatement(sql: "UPDATE webhook SET tries = ?, due_at = ? WHERE id = ?")
                .execute(arguments: [webhook.tries, time, webhook.id])
        }
    }

    package func removeWebhook(_ id: Int64) async throws {
        try await write { database in
            try database.cachedStatement(sql: "DELETE FROM webhook WHERE id = ?").execute(arguments: [id])
        }
    }

    // MARK: - Rows

    private static let columns = """
        id, endpoint, status, is_sync, is_low_priority, created_at, expires_at, execution_timeout, retention, webhook,
        worker, since, retries, delay, execution, cold_start
        """

    private static func record(_ row: Row) throws -> JobRecord {
        let output: Data? = row["output"]
        let error: Data? = row["error"]
        return JobRecord(
            job: try job(row), result: JobResult(output: output.map { [UInt8]($0) }, error: error.map { [UInt8]($0) }))
    }

    private static func job(_ row: Row) throws -> Job {
        let text: String = row["status"]
        guard let status = JobStatus(rawValue: text) else {
            throw RoostError(.internalFault, "job \(row["id"] as String) has the unknown status \(text)")
        }
        let since: Milliseconds = row["since"]
        let worker: String? = row["worker"]
        let phase: JobLifecycle.Phase =
            switch status {
            case .inQueue: .queued(since: since)
            case .inProgress: .running(worker: worker ?? "", since: since)
            default: .ended(status, worker: worker, at: since)
            }
        var job = Job(
            id: row["id"], endpointID: row["endpoint"], isSync: row["is_sync"], isLowPriority: row["is_low_priority"],
            createdAt: row["created_at"], expiresAt: row["expires_at"], executionTimeout: row["execution_timeout"],
            retention: row["retention"], webhook: row["webhook"],
            lifecycle: JobLifecycle(phase: phase, retries: row["retries"], delay: row["delay"], execution: row["execution"]))
        job.coldStart = row["cold_start"]
        return job
    }
}

extension JobLifecycle {
    /// When its present phase began.
    var since: Milliseconds {
        switch phase {
        case .queued(let since): since
        case .running(_, let since): since
        case .ended(_, _, let at): at
        }
    }
}
