import ControlPlane
import Hummingbird
import Logging
import NIOCore
import Resource

/// The HTTP server: all routes, put together once.
package enum HTTPGateway {
    /// `onListening` is called with the port once connections are accepted.
    package static func application(
        _ plane: Plane, s3: S3Gateway?, log: Logger, onListening: @escaping @Sendable (Int) async -> Void
    ) -> some ApplicationProtocol {
        let router = Router(context: BasicRequestContext.self)
        router.add(middleware: ErrorMiddleware())
        let authorizer = Authorizer(catalog: plane.catalog)
        JobController(plane: plane, authorizer: authorizer).add(to: router)
        WorkerController(plane: plane).add(to: router)
        ManagementController(plane: plane, authorizer: authorizer, s3: s3).add(to: router)
        WorkerViewController(plane: plane, authorizer: authorizer).add(to: router)
        ImageController(plane: plane, authorizer: authorizer).add(to: router)
        let configuration = ApplicationConfiguration(
            address: .hostname(plane.configuration.host, port: plane.configuration.port), serverName: "Roost")
        let silence = Int64(plane.configuration.idleConnectionSeconds)
        return Application(
            router: router,
            server: .http1(configuration: .init(additionalChannelHandlers: [ContinueHandler()], idleTimeout: .seconds(silence))),
            configuration: configuration,
            onServerRunning: { channel in await onListening(channel.localAddress?.port ?? plane.configuration.port) }, logger: log)
    }
}
