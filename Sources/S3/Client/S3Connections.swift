import AsyncHTTPClient
import NIOCore
import NIOSSL

/// The connections that clients of stores share. Redirects are left to `S3Client`, which signs anew for them; a store that
/// falls silent is given up, and its request tried again.
package struct S3Connections: Sendable {
    let client: HTTPClient

    /// For the user's stores: certificates are checked.
    package static let standard = S3Connections(checksCertificates: true)
    /// For this server's own door, whose certificate may be made out for another name than the loopback address.
    package static let ownDoor = S3Connections(checksCertificates: false)

    private init(checksCertificates: Bool) {
        var configuration = HTTPClient.Configuration.singletonConfiguration
        configuration.redirectConfiguration = .disallow
        configuration.timeout = .init(connect: .seconds(10), read: .seconds(120), write: .seconds(60))
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 32
        if !checksCertificates {
            var tls = TLSConfiguration.makeClientConfiguration()
            tls.certificateVerification = .none
            configuration.tlsConfiguration = tls
        }
        client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }
}
