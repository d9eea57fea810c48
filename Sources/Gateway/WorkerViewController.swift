import ControlPlane
import Hummingbird
import NIOCore
import Resource

/// `/v1/endpoints/{id}/workers…`: what runs, its logs, and stopping one by hand.
struct WorkerViewController: Sendable {
    typealias Context = BasicRequestContext

    let plane: Plane
    let authorizer: Authorizer
    /// How often a followed log is looked at.
    private static let followInterval: Duration = .milliseconds(200)

    func add(to router: Router<Context>) {
        router.get("/v1/endpoints/:id/workers", use: list)
        router.get("/v1/endpoints/:id/workers/:worker", use: get)
        router.delete("/v1/endpoints/:id/workers/:worker", use: stop)
        router.get("/v1/endpoints/:id/workers/:worker/logs", use: logs)
        router.get("/v1/endpoints/:id/starts", use: starts)
        router.get("/v1/workers/:id/starts", use: startsOfWorker)
        router.get("/v1/endpoints/:id/warmpages", use: warmPages)
        router.delete("/v1/endpoints/:id/warmpages", use: forgetWarmPages)
    }

    @Sendable
    private func list(_ request: Request, _ context: Context) async throws -> Response {
        .json(.array(await plane.workers.describe(try endpoint(request, context, write: false))))
    }

    @Sendable
    private func get(_ request: Request, _ context: Context) async throws -> Response {
        .json(try await plane.workers.worker(context.parameter("worker"), of: endpoint(request, context, write: false)))
    }

    @Sendable
    private func stop(_ request: Request, _ context: Context) async throws -> Response {
        let endpoint = try endpoint(request, context, write: true)
        let id = try context.parameter("worker")
        _ = try await plane.workers.worker(id, of: endpoint)
        await plane.workers.drain(id, reason: "stopped by hand")
        return .noContent
    }

    @Sendable
    private func starts(_ request: Request, _ context: Context) async throws -> Response {
        .json(await plane.workers.starts(of: try endpoint(request, context, write: false)))
    }

    @Sendable
    private func startsOfWorker(_ request: Request, _ context: Context) async throws -> Response {
        try authorizer.management(request, write: false)
        return .json(try await plane.workers.starts(ofWorker: context.parameter("id")))
    }

    @Sendable
    private func warmPages(_ request: Request, _ context: Context) async throws -> Response {
        let endpoint = try endpoint(request, context, write: false)
        return .json(await plane.warmPages.pages(of: endpoint.id)?.json ?? ["bytes": 0, "files": []])
    }

    @Sendable
    private func forgetWarmPages(_ request: Request, _ context: Context) async throws -> Response {
        try await plane.warmPages.forget(endpoint(request, context, write: true).id)
        return .noContent
    }

    @Sendable
    private func logs(_ request: Request, _ context: Context) async throws -> Response {
        let endpoint = try endpoint(request, context, write: false)
        let id = try context.parameter("worker")
        let tail = try request.integer("tail", 0...Limits.logTailLines, default: 100)
        let log = try plane.workers.log(of: id, endpoint: endpoint.id)
        guard try request.flag("follow") else { return .json(["lines": .array(try log.tail(tail).lines.map(\.json))]) }
        return follow(log, worker: id, tail: tail)
    }

    /// Server-sent events, one a line, until the worker has ended or the client is gone.
    private func follow(_ log: WorkerLog, worker: String, tail: Int) -> Response {
        let workers = plane.workers
        var headers = HTTPFields()
        headers[.contentType] = "text/event-stream"
        headers[.cacheControl] = "no-store"
        return Response(
            status: .ok, headers: headers,
            body: ResponseBody { writer in
                var (lines, end) = try log.tail(tail)
                while true {
                    let isOver = await !workers.isKnown(worker)
                    if !lines.isEmpty {
                        let text = lines.map { "id: \($0.time)\ndata: \($0.json.text)\n\n" }.joined()
                        try await writer.write(ByteBuffer(string: text))
                    }
                    if isOver && lines.isEmpty { break }
                    try await Task.sleep(for: Self.followInterval)
                    (lines, end) = try log.more(after: end)
                }
                try await writer.finish(nil)
            })
    }

    private func endpoint(_ request: Request, _ context: Context, write: Bool) throws -> Endpoint {
        try authorizer.management(request, write: write)
        return try plane.catalog.existingEndpoint(context.parameter("id"))
    }
}
