import ControlPlane
import Hummingbird
import NIOCore
import Resource

/// `/v2/{endpoint}/job-…` for workers: the protocol of RunPod's worker SDK.
///
/// Results are answered 2xx or 5xx only: the SDK gives up a result at any 4xx.
struct WorkerController: Sendable {
    typealias Context = BasicRequestContext

    let plane: Plane

    func add(to router: Router<Context>) {
        router.get("/v2/:endpoint/job-take/:worker", use: take)
        router.get("/v2/:endpoint/job-take-batch/:worker", use: take)
        router.get("/v2/:endpoint/job-stop/:worker", use: stop)
        router.get("/v2/:endpoint/ping/:worker", use: ping)
        router.post("/v2/:endpoint/job-done/:worker/:job", use: done)
        router.post("/v2/:endpoint/job-stream/:worker/:job", use: stream)
    }

    @Sendable
    private func take(_ request: Request, _ context: Context) async throws -> Response {
        let worker = try await authenticate(request, context)
        let query = request.uri.queryParameters
        let isBatch = query["batch_size"] != nil
        let limit = min(max(query["batch_size"].flatMap { Int($0) } ?? 1, 1), Limits.batchTake)
        let hasJobs = query["job_in_progress"] == "1"
        let jobs = try await plane.jobs.take(worker: worker, limit: limit, hasJobs: hasJobs)
        guard let first = jobs.first else { return .noContent }
        if !isBatch { return .json(first) }
        var out = Array("[".utf8)
        for (index, job) in jobs.enumerated() {
            if index > 0 { out.append(UInt8(ascii: ",")) }
            out += job
        }
        out.append(UInt8(ascii: "]"))
        return .json(out)
    }

    @Sendable
    private func stop(_ request: Request, _ context: Context) async throws -> Response {
        let worker = try await authenticate(request, context)
        let ids = try await plane.jobs.stopRequests(worker: worker)
        return ids.isEmpty ? .noContent : .json(["jobsToStop": .strings(ids)])
    }

    @Sendable
    private func ping(_ request: Request, _ context: Context) async throws -> Response {
        let worker = try await authenticate(request, context)
        await plane.jobs.ping(worker: worker)
        return .json([:])
    }

    @Sendable
    private func done(_ request: Request, _ context: Context) async throws -> Response {
        let worker = try await authenticate(request, context)
        let job = try context.parameter("job")
        let limit = plane.configuration.jobs.outputBytes + 64 << 10
        var body = request.body.makeAsyncIterator()
        var (pieces, bytes) = ([ByteBuffer](), 0)
        while bytes <= limit, let piece = try await body.next() {
            bytes += piece.readableBytes
            pieces.append(piece)
        }
        if bytes <= limit {
            var whole: [UInt8] = []
            whole.reserveCapacity(bytes)
            for piece in pieces { whole += piece.readableBytesView }
            try await plane.workers.report(worker: worker, job: job, body: whole)
            return .json([:])
        }
        let endpoint = plane.catalog.endpoint(try context.parameter("endpoint"))
        if let name = endpoint?.largeData.flatMap(ObjectPlace.Name.init), await plane.jobs.holds(worker, job: job) {
            try await plane.spill.take(pieces, then: body, worker: worker, job: job, place: name)
            return .json([:])
        }
        // Read to its end, so that the worker hears the answer.
        pieces = []
        while let piece = try await body.next() { bytes += piece.readableBytes }
        try await plane.jobs.outputTooLarge(worker: worker, job: job, bytes: bytes)
        return .json([:])
    }

    @Sendable
    private func stream(_ request: Request, _ context: Context) async throws -> Response {
        let worker = try await authenticate(request, context)
        guard let body = try await chunk(request) else { return .json([:]) }
        try await plane.jobs.append(worker: worker, job: context.parameter("job"), report: WorkerReport(body))
        return .json([:])
    }

    /// The body, or nil when it is too large to keep: then it is read to its end, so that the worker hears the answer.
    private func chunk(_ request: Request) async throws -> [UInt8]? {
        let limit = plane.configuration.jobs.outputBytes + 64 << 10
        var bytes: [UInt8] = []
        var isTooLarge = false
        for try await buffer in request.body {
            if isTooLarge { continue }
            if bytes.count + buffer.readableBytes > limit {
                isTooLarge = true
                bytes = []
            } else {
                bytes += buffer.readableBytesView
            }
        }
        return isTooLarge ? nil : bytes
    }

    /// A worker's token is good for the worker calls of its own endpoint, in its own name, and for nothing else.
    private func authenticate(_ request: Request, _ context: Context) async throws -> String {
        let worker = try context.parameter("worker")
        guard let token = request.credential else { throw RoostError(.unauthorized, "no token provided") }
        guard await plane.workers.authenticate(worker, endpoint: try context.parameter("endpoint"), token: token) else {
            throw RoostError(.unauthorized, "this token is not worker \(worker.prefix(80))'s")
        }
        return worker
    }
}
