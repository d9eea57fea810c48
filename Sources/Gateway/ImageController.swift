import ControlPlane
import Disk
import Glibc
import Hummingbird
import NIOCore
import Resource

/// `/v1/images`: what is cached, and bringing in more.
struct ImageController: Sendable {
    typealias Context = BasicRequestContext

    let plane: Plane
    let authorizer: Authorizer

    func add(to router: Router<Context>) {
        let (catalog, images, authorizer) = (plane.catalog, plane.images, authorizer)
        router.get("/v1/images") { request, _ -> Response in
            try authorizer.management(request, write: false)
            return .json(.array(catalog.snapshot.images.values.sorted { $0.name < $1.name }.map(\.json)))
        }
        router.get("/v1/images/:id") { request, context -> Response in
            let asks = try request.flag("check")
            // What the registry says costs it a request: not for those who may only read.
            try authorizer.management(request, write: asks)
            return .json(try await images.inspect(context.parameter("id"), asksRegistry: asks, auth: request.text("auth")))
        }
        router.get("/v1/imagepulls") { request, _ -> Response in
            try authorizer.management(request, write: false)
            return .json(.array(await images.pullList()))
        }
        router.post("/v1/images/pull") { request, _ -> Response in
            try authorizer.management(request, write: true)
            let fields = [
                Field("name", .text(255), required: true, "the image"), Field("containerRegistryAuthId", .text(64), "credentials"),
            ]
            let values = try FieldValues(await request.json(), fields: fields, isUpdate: false)
            return .json(try await images.pull(values.string("name") ?? "", auth: values.string("containerRegistryAuthId")).json)
        }
        router.post("/v1/images/prune") { request, _ -> Response in
            try authorizer.management(request, write: true)
            let removed = try await images.prune()
            return .json(["removed": .strings(removed.names), "bytes": .int(Int(removed.bytes))])
        }
        router.delete("/v1/images/:id") { request, context -> Response in
            try authorizer.management(request, write: true)
            try await images.remove(context.parameter("id"))
            return .noContent
        }
        router.post("/v1/images/import", use: importArchive)
    }

    /// The body is the archive; `name` is the query. It goes to disk as it comes, never whole into memory.
    @Sendable
    private func importArchive(_ request: Request, _ context: Context) async throws -> Response {
        try authorizer.management(request, write: true)
        guard let name = request.uri.queryParameters["name"].map(String.init), !name.isEmpty else {
            throw RoostError(.invalid, "query 'name' is required: what the image is to be called")
        }
        let path = plane.images.uploadPath()
        do { try await receive(request, to: path) } catch {
            unlink(path)
            throw (error as? DiskError)?.roostError ?? error
        }
        return .json(try await plane.images.importArchive(path, name: name).json)
    }

    private func receive(_ request: Request, to path: String) async throws {
        let descriptor = try check(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600), "open", path)
        defer { close(descriptor) }
        var pending: [UInt8] = []
        for try await buffer in request.body {
            pending += buffer.readableBytesView
            if pending.count >= 1 << 20 {
                let bytes = pending
                try await Blocking.run { try Files.write(bytes, to: descriptor, path: path) }
                pending.removeAll(keepingCapacity: true)
            }
        }
        let bytes = pending
        try await Blocking.run { try Files.write(bytes, to: descriptor, path: path) }
    }
}
