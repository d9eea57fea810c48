import ControlPlane
import Disk
import Hummingbird
import NIOCore
import Resource

/// `/v1/templates`, `/v1/endpoints`, `/v1/networkvolumes`, `/v1/apikeys`, `/v1/datacenters`: RunPod's REST v1.
struct ManagementController: Sendable {
    typealias Context = BasicRequestContext

    let plane: Plane
    let authorizer: Authorizer
    /// Nil when the S3 door is off.
    let s3: S3Gateway?

    func add(to router: Router<Context>) {
        addTemplates(to: router)
        addEndpoints(to: router)
        addVolumes(to: router)
        addKeys(to: router)
        addS3Keys(to: router)
        addObjectStores(to: router)
        addSyncs(to: router)
        addRegistryAuths(to: router)
        addModels(to: router)
        read(router, "/v1/datacenters") { _, _ in .json(.array(plane.catalog.dataCenters.map(\.json))) }
        router.get("/v1/openapi.json") { _, _ -> Response in .json(OpenAPI.document(plane.configuration)) }
    }

    private func addTemplates(to router: Router<Context>) {
        let catalog = plane.catalog
        read(router, "/v1/templates") { _, _ in
            .json(.array(catalog.snapshot.templates.values.sorted { $0.createdAt < $1.createdAt }.map(\.json)))
        }
        read(router, "/v1/templates/:id") { _, id in .json(try catalog.template(id).json) }
        write(router, .post, "/v1/templates") { request, _, _ in .json(try await catalog.createTemplate(request.json()).json) }
        update(router, "/v1/templates/:id") { request, id in .json(try await catalog.updateTemplate(id, request.json()).json) }
        write(router, .delete, "/v1/templates/:id") { _, id, _ in
            try await catalog.deleteTemplate(id)
            return .noContent
        }
    }

    private func addEndpoints(to router: Router<Context>) {
        let (catalog, plane) = (plane.catalog, plane)
        read(router, "/v1/endpoints") { request, _ in
            var list: [JSON] = []
            for endpoint in catalog.snapshot.endpoints.values.sorted(by: { $0.createdAt < $1.createdAt }) {
                list.append(try await describe(endpoint, request))
            }
            return .json(.array(list))
        }
        read(router, "/v1/endpoints/:id") { request, id in .json(try await describe(catalog.existingEndpoint(id), request)) }
        write(router, .post, "/v1/endpoints") { request, _, _ in
            .json(try await describe(catalog.createEndpoint(request.json()), request))
        }
        update(router, "/v1/endpoints/:id") { request, id in
            .json(try await describe(catalog.updateEndpoint(id, request.json()), request))
        }
        write(router, .delete, "/v1/endpoints/:id") { _, id, _ in
            try await catalog.deleteEndpoint(id)
            try await plane.workers.removeAll(of: id)
            try await plane.jobs.removeAll(of: id)
            return .noContent
        }
    }

    private func describe(_ endpoint: Endpoint, _ request: Request) async throws -> JSON {
        let workers = try request.flag("includeWorkers") ? await plane.workers.describe(endpoint) : nil
        return endpoint.json(
            template: plane.catalog.snapshot.templates[endpoint.templateId], workers: workers,
            includeTemplate: try request.flag("includeTemplate"))
    }

    private func addVolumes(to router: Router<Context>) {
        let (catalog, volumes, workers) = (plane.catalog, plane.volumes, plane.workers)
        let s3 = s3
        let describe: @Sendable (NetworkVolume) async -> JSON = { volume in
            let json = volumes.describe(volume, mountedBy: await workers.mounting(volume.id))
            guard let s3, case .object(let members) = json else { return json }
            let uploads = (try? await Blocking.run { s3.uploads(of: volume) }) ?? .null
            return .object(members + [.init("uploads", uploads)])
        }
        read(router, "/v1/networkvolumes") { _, _ in
            var list: [JSON] = []
            for volume in catalog.snapshot.volumes.values.sorted(by: { $0.createdAt < $1.createdAt }) {
                list.append(await describe(volume))
            }
            return .json(.array(list))
        }
        read(router, "/v1/networkvolumes/:id") { _, id in .json(await describe(try volumes.existing(id))) }
        write(router, .post, "/v1/networkvolumes") { request, _, _ in .json(await describe(try await volumes.create(request.json()))) }
        update(router, "/v1/networkvolumes/:id") { request, id in .json(await describe(try await volumes.update(id, request.json()))) }
        write(router, .delete, "/v1/networkvolumes/:id") { _, id, _ in
            try await volumes.delete(id, mountedBy: await workers.mounting(id))
            return .noContent
        }
    }

    private func addKeys(to router: Router<Context>) {
        let catalog = plane.catalog
        read(router, "/v1/apikeys") { _, _ in
            .json(.array(catalog.snapshot.keys.values.sorted { $0.createdAt < $1.createdAt }.map(\.json)))
        }
        read(router, "/v1/apikeys/:id") { _, id in
            guard let key = catalog.snapshot.keys.values.first(where: { $0.id == id }) else {
                throw RoostError(.notFound, "there is no API key \(id.prefix(80))")
            }
            return .json(key.json)
        }
        write(router, .post, "/v1/apikeys") { request, _, _ in
            let (key, secret) = try await catalog.createKey(request.json())
            guard case .object(let members) = key.json else { return .noContent }
            return .json(.object(members + [.init("key", .string(secret))]))
        }
        write(router, .delete, "/v1/apikeys/:id") { _, id, key in
            try await catalog.revokeKey(id, by: key)
            return .noContent
        }
    }

    private func addS3Keys(to router: Router<Context>) {
        let (catalog, s3) = (plane.catalog, s3)
        read(router, "/v1/s3") { request, _ in
            guard let s3 else { throw RoostError(.notFound, "the S3 door is off: start the server with --s3-listen") }
            return .json(["url": .string(s3.url(authority: request.head.authority))])
        }
        read(router, "/v1/s3keys") { _, _ in
            .json(.array(catalog.snapshot.s3Keys.values.sorted { $0.createdAt < $1.createdAt }.map(\.json)))
        }
        read(router, "/v1/s3keys/:id") { _, id in .json(try catalog.s3Key(id).json) }
        write(router, .post, "/v1/s3keys") { request, _, _ in
            let (key, secret) = try await catalog.createS3Key(request.json())
            guard case .object(let members) = key.json else { return .noContent }
            return .json(.object(members + [.init("secretAccessKey", .string(secret))]))
        }
        write(router, .delete, "/v1/s3keys/:id") { _, id, _ in
            try await catalog.revokeS3Key(id)
            return .noContent
        }
    }

    private func addObjectStores(to router: Router<Context>) {
        let (catalog, probe) = (plane.catalog, StoreProbe(places: plane.places))
        read(router, "/v1/objectstores") { _, _ in
            .json(.array(catalog.snapshot.objectStores.values.sorted { $0.name < $1.name }.map(\.json)))
        }
        read(router, "/v1/objectstores/:id") { _, id in .json(try catalog.objectStore(id).json) }
        write(router, .post, "/v1/objectstores") { request, _, _ in .json(try await catalog.createObjectStore(request.json()).json) }
        update(router, "/v1/objectstores/:id") { request, id in .json(try await catalog.updateObjectStore(id, request.json()).json) }
        write(router, .post, "/v1/objectstores/:id/check") { _, id, _ in .json(try await probe.check(id)) }
        write(router, .post, "/v1/secrets/rotate") { _, _, _ in .json(["keys": .int(try await catalog.rotateSecrets())]) }
        write(router, .delete, "/v1/objectstores/:id") { _, id, _ in
            try await catalog.deleteObjectStore(id)
            return .noContent
        }
    }

    private func addRegistryAuths(to router: Router<Context>) {
        let catalog = plane.catalog
        read(router, "/v1/containerregistryauth") { _, _ in
            .json(.array(catalog.snapshot.registryAuths.values.sorted { $0.name < $1.name }.map(\.json)))
        }
        read(router, "/v1/containerregistryauth/:id") { _, id in .json(try catalog.registryAuth(id).json) }
        write(router, .post, "/v1/containerregistryauth") { request, _, _ in
            .json(try await catalog.createRegistryAuth(request.json()).json)
        }
        write(router, .delete, "/v1/containerregistryauth/:id") { _, id, _ in
            try await catalog.deleteRegistryAuth(id)
            return .noContent
        }
    }

    private func addModels(to router: Router<Context>) {
        let models = plane.models
        read(router, "/v1/models") { _, _ in .json(.array(await models.all.map(\.json))) }
        read(router, "/v1/models/:id") { _, id in .json(try await models.model(id).json) }
        write(router, .post, "/v1/models") { request, _, _ in
            let fields = [
                Field("reference", .text(1_200), required: true, "the model"), Field("token", .text(1_024), "for the hub; not kept"),
            ]
            let values = try FieldValues(await request.json(), fields: fields, isUpdate: false)
            return .json(try await models.add(values.string("reference") ?? "", token: values.string("token")).json)
        }
        write(router, .post, "/v1/models/:id/verify") { _, id, _ in
            let broken = try await models.verify(id)
            return .json(["ok": .bool(broken.isEmpty), "broken": .strings(broken)])
        }
        write(router, .delete, "/v1/models/:id") { _, id, _ in
            try await models.remove(id)
            return .noContent
        }
    }

    private func addSyncs(to router: Router<Context>) {
        let syncs = plane.syncs
        read(router, "/v1/syncs") { _, _ in .json(.array(await syncs.all.map(\.json))) }
        read(router, "/v1/syncs/:id") { _, id in .json(try await syncs.sync(id).json) }
        write(router, .post, "/v1/syncs") { request, _, _ in .json(try await syncs.create(request.json()).json) }
        write(router, .delete, "/v1/syncs/:id") { _, id, _ in
            try await syncs.delete(id)
            return .noContent
        }
    }

    // MARK: - Shapes of routes

    /// The id in the path; empty where the route has none.
    private func identifier(_ context: Context) -> String { (try? context.parameter("id")) ?? "" }

    private func read(
        _ router: Router<Context>, _ path: RouterPath, _ body: @escaping @Sendable (Request, String) async throws -> Response
    ) {
        router.get(path) { request, context -> Response in
            try authorizer.management(request, write: false)
            return try await body(request, identifier(context))
        }
    }

    private func write(
        _ router: Router<Context>, _ method: HTTPRequest.Method, _ path: RouterPath,
        _ body: @escaping @Sendable (Request, String, APIKey) async throws -> Response
    ) {
        router.on(path, method: method) { request, context -> Response in
            let key = try authorizer.management(request, write: true)
            return try await body(request, identifier(context), key)
        }
    }

    /// PATCH, and its alias `POST …/update`.
    private func update(
        _ router: Router<Context>, _ path: RouterPath, _ body: @escaping @Sendable (Request, String) async throws -> Response
    ) {
        write(router, .patch, path) { request, id, _ in try await body(request, id) }
        write(router, .post, RouterPath("\(path)/update")) { request, id, _ in try await body(request, id) }
    }
}
