import Resource

/// The state that survives: one seam, so that SQLite can become PostgreSQL.
///
/// Every writing method returns once its effect is durable, and takes its place in the order of writes when it is
/// called, before it first waits. Many concurrent writes share one fsync.
package protocol Store: Sendable {
    // Documents: endpoints, templates, volumes, keys, images, workers.
    func documents<Value: Codable & Sendable>(_ kind: DocumentKind, as type: Value.Type) async throws -> [Value]
    func save<Value: Codable & Sendable>(_ value: Value, kind: DocumentKind, id: String) async throws
    func remove(_ kind: DocumentKind, id: String) async throws

    // Jobs.
    func insert(_ job: Job, payload: JobPayload) async throws
    /// Writes where jobs stand. The output of one that is queued anew goes.
    func update(_ jobs: [Job]) async throws
    /// Writes the end of a job, its result, its webhook's outbox row and the endpoint's counters, together.
    func finish(_ job: Job, result: JobResult) async throws
    func progress(_ id: String, output: [UInt8]) async throws
    func liveJobs() async throws -> [Job]
    func payload(of id: String) async throws -> JobPayload?
    func record(of id: String) async throws -> JobRecord?
    func recentJobs(of endpoint: String, limit: Int) async throws -> [JobRecord]
    /// Ends all queued jobs of an endpoint as CANCELLED.
    func cancelQueued(of endpoint: String, at now: Milliseconds) async throws
    func removeJob(_ id: String) async throws
    func removeJobs(of endpoint: String) async throws
    /// Removes finished jobs whose retention is over; returns how many.
    func sweep(at now: Milliseconds) async throws -> Int
    func counters(of endpoint: String) async throws -> JobCounters

    // Stream chunks.
    func append(chunk: [UInt8], sequence: Int, to id: String) async throws
    func chunks(of id: String) async throws -> [StreamChunk]
    func removeChunks(of id: String, through sequence: Int) async throws

    // Starts of workers, by endpoint, oldest first. The newest `Limits.keptStarts` of each endpoint stay.
    func save(starts: [String: [StartRecord]]) async throws
    func starts() async throws -> [String: [StartRecord]]
    func removeStarts(of endpoint: String) async throws

    // Webhooks.
    func dueWebhooks(at now: Milliseconds, limit: Int) async throws -> [WebhookDelivery]
    func nextWebhook() async throws -> Milliseconds?
    func postpone(_ webhook: WebhookDelivery, until time: Milliseconds) async throws
    func removeWebhook(_ id: Int64) async throws
}

package enum DocumentKind: String, Sendable, CaseIterable {
    case endpoint, template, volume, key, s3key, objectstore, image, worker, sync, registryauth, model
}

/// What the client sent, as the bytes it came in.
package struct JobPayload: Sendable, Equatable {
    /// The value of `input`.
    package var input: [UInt8]
    /// The other members of the request that go to the worker: `"key":value` pairs joined by commas, or empty.
    package var extra: [UInt8]

    package init(input: [UInt8], extra: [UInt8]) {
        self.input = input
        self.extra = extra
    }
}

/// What a job left, as JSON text.
package struct JobResult: Sendable, Equatable {
    package var output: [UInt8]?
    package var error: [UInt8]?

    package init(output: [UInt8]? = nil, error: [UInt8]? = nil) {
        self.output = output
        self.error = error
    }

    /// A result that is only an error text of ours.
    package static func failure(_ text: String) -> JobResult { JobResult(error: JSON.string(text).bytes) }
}

/// A job with its result.
package struct JobRecord: Sendable, Equatable {
    package var job: Job
    package var result: JobResult

    package init(job: Job, result: JobResult) {
        self.job = job
        self.result = result
    }
}

package struct StreamChunk: Sendable, Equatable {
    package var sequence: Int
    package var bytes: [UInt8]
}

/// Rolling totals of an endpoint.
package struct JobCounters: Sendable, Equatable {
    package var completed = 0
    package var failed = 0
    package var retried = 0

    package init(completed: Int = 0, failed: Int = 0, retried: Int = 0) {
        self.completed = completed
        self.failed = failed
        self.retried = retried
    }
}

/// One webhook still to be delivered.
package struct WebhookDelivery: Sendable, Equatable {
    package var id: Int64
    package var jobID: String
    package var url: String
    /// Tries made so far.
    package var tries: Int
}
