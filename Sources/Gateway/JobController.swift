import ControlPlane
import Hummingbird
import NIOCore
import Resource

/// `/v2/{endpoint}/…` for clients. Status, stream and status-sync take GET and POST: clients differ.
struct JobController: Sendable {
    typealias Context = BasicRequestContext

    let plane: Plane
    let authorizer: Authorizer

    func add(to router: Router<Context>) {
        router.post("/v2/:endpoint/run", use: run)
        router.post("/v2/:endpoint/runsync", use: runsync)
        router.post("/v2/:endpoint/upload", use: upload)
        router.post("/v2/:endpoint/cancel/:job", use: cancel)
        router.post("/v2/:endpoint/retry/:job", use: retry)
        router.post("/v2/:endpoint/purge-queue", use: purge)
        router.get("/v2/:endpoint/health", use: health)
        router.get("/v2/:endpoint/requests", use: requests)
        for method in [HTTPRequest.Method.get, .post] {
            router.on("/v2/:endpoint/status/:job", method: method, use: status)
            router.on("/v2/:endpoint/status-sync/:job", method: method, use: statusSync)
            router.on("/v2/:endpoint/stream/:job", method: method, use: stream)
        }
    }

    private static let wayOut =
        "put large inputs on a network volume or in object storage: /v2/{endpoint}/upload gives a place and a reference to send"

    @Sendable
    private func run(_ request: Request, _ context: Context) async throws -> Response {
        let endpoint = try authorizer.endpoint(context.parameter("endpoint"), request, write: true)
        let body = try await request.body(upTo: plane.configuration.runBodyBytes, wayOut: Self.wayOut)
        let id = try await plane.jobs.submit(job(body, endpoint), to: endpoint, isSync: false)
        return .json(["id": .string(id), "status": "IN_QUEUE"])
    }

    @Sendable
    private func runsync(_ request: Request, _ context: Context) async throws -> Response {
        let endpoint = try authorizer.endpoint(context.parameter("endpoint"), request, write: true)
        let wait = try wait(request, default: Limits.syncWait)
        let body = try await request.body(upTo: plane.configuration.runsyncBodyBytes, wayOut: Self.wayOut)
        let id = try await plane.jobs.submit(job(body, endpoint), to: endpoint, isSync: true)
        return .json(try await plane.jobs.status(id, of: endpoint.id, wait: wait))
    }

    private func job(_ body: [UInt8], _ endpoint: Endpoint) throws -> JobRequest {
        let request = try JobRequest(body)
        try plane.inputs.check(request.payload.input, of: endpoint)
        return request
    }

    /// A place for an input too large for a request.
    @Sendable
    private func upload(_ request: Request, _ context: Context) async throws -> Response {
        let endpoint = try authorizer.endpoint(context.parameter("endpoint"), request, write: true)
        return .json(try plane.inputs.upload(await request.json(), for: endpoint))
    }

    @Sendable
    private func status(_ request: Request, _ context: Context) async throws -> Response {
        let (endpoint, job) = try target(request, context, write: false)
        return .json(try await plane.jobs.status(job, of: endpoint.id))
    }

    @Sendable
    private func statusSync(_ request: Request, _ context: Context) async throws -> Response {
        let (endpoint, job) = try target(request, context, write: false)
        return .json(try await plane.jobs.status(job, of: endpoint.id, wait: wait(request, default: Limits.syncWait)))
    }

    /// Chunks count as delivered once they were written to a connection that was still there.
    @Sendable
    private func stream(_ request: Request, _ context: Context) async throws -> Response {
        let (endpoint, job) = try target(request, context, write: false)
        let reply = try await plane.jobs.stream(job, of: endpoint.id, wait: wait(request, default: Limits.streamHold))
        var response = Response.json(reply.body)
        guard reply.through != nil else { return response }
        let jobs = plane.jobs
        response.body = ResponseBody(contentLength: reply.body.count) { writer in
            try await writer.write(ByteBuffer(bytes: reply.body))
            try await writer.finish(nil)
            try await jobs.delivered(reply)
        }
        return response
    }

    @Sendable
    private func cancel(_ request: Request, _ context: Context) async throws -> Response {
        let (endpoint, job) = try target(request, context, write: true)
        return .json(try await plane.jobs.cancel(job, of: endpoint.id))
    }

    @Sendable
    private func retry(_ request: Request, _ context: Context) async throws -> Response {
        let (endpoint, job) = try target(request, context, write: true)
        return .json(try await plane.jobs.retry(job, of: endpoint))
    }

    @Sendable
    private func purge(_ request: Request, _ context: Context) async throws -> Response {
        let endpoint = try authorizer.endpoint(context.parameter("endpoint"), request, write: true)
        return .json(["removed": .int(try await plane.jobs.purge(endpoint.id)), "status": "completed"])
    }

    @Sendable
    private func health(_ request: Request, _ context: Context) async throws -> Response {
        let endpoint = try authorizer.endpoint(context.parameter("endpoint"), request, write: false)
        let jobs = try await plane.jobs.jobNumbers(of: endpoint.id)
        let counts: JSON = [
            "completed": .int(jobs.totals.completed), "failed": .int(jobs.totals.failed), "inProgress": .int(jobs.running),
            "inQueue": .int(jobs.queued), "retried": .int(jobs.totals.retried),
        ]
        return .json(["jobs": counts, "workers": await plane.workers.numbers(of: endpoint)])
    }

    @Sendable
    private func requests(_ request: Request, _ context: Context) async throws -> Response {
        let endpoint = try authorizer.endpoint(context.parameter("endpoint"), request, write: false)
        return .json(try await plane.jobs.recent(of: endpoint.id))
    }

    private func target(_ request: Request, _ context: Context, write: Bool) throws -> (Endpoint, String) {
        (try authorizer.endpoint(context.parameter("endpoint"), request, write: write), try context.parameter("job"))
    }

    private func wait(_ request: Request, default standard: Milliseconds) throws -> Milliseconds {
        let range = Int(Limits.syncWaitRange.lowerBound)...Int(Limits.syncWaitRange.upperBound)
        return Int64(try request.integer("wait", range, default: Int(standard)))
    }
}
