import AsyncHTTPClient
import NIOCore
import Resource
import S3

/// Finds out whether a named store works, by writing, reading and removing a small object, and says what is wrong if not.
package struct StoreProbe: Sendable {
    private let places: ObjectPlaces

    /// How long a store may take for each step.
    private static let patience: TimeAmount = .seconds(10)

    package init(places: ObjectPlaces) { self.places = places }

    /// `{"ok": true}`, or what is wrong and at which step.
    package func check(_ name: String) async throws -> JSON {
        let store = try places.catalog.objectStore(name)
        var client = try places.place(of: store).client
        (client.timeout, client.tries) = (Self.patience, 1)
        let key = (store.prefix.isEmpty ? "" : store.prefix + "/") + ".roost-check-" + Identifier.make(length: 12)
        let text = "roost checks that this store works; it removes this object at once"
        var step = "write"
        do {
            try await client.put(store.bucketName, key, ByteBuffer(string: text))
            step = "read"
            let response = try await client.send(.GET, store.bucketName, key)
            let body = try await response.body.collect(upTo: 1 << 20)
            guard String(buffer: body) == text else { return Self.failure(step, "the store returned other bytes than were written") }
            step = "remove"
            try await client.delete(store.bucketName, key)
            return ["ok": true]
        } catch {
            return Self.failure(step, Self.diagnosis(error, store))
        }
    }

    private static func failure(_ step: String, _ why: String) -> JSON { ["ok": false, "step": .string(step), "error": .string(why)] }

    static func diagnosis(_ error: any Error, _ store: ObjectStore) -> String {
        if let failure = error as? S3Failure { return diagnosis(failure, store) }
        guard let error = error as? HTTPClientError else {
            let text = "\(error)"
            let isTLS = text.lowercased().contains("ssl") || text.lowercased().contains("tls") || text.contains("certificate")
            let isName = text.contains("NIOConnectionError") && (text.contains("dnsA") || text.contains("getaddrinfo"))
            if isTLS { return "TLS with \(store.endpointUrl) failed: is it https, and its certificate trusted here? (\(text.prefix(200)))" }
            return isName
                ? "the name \(store.host) cannot be resolved, or nothing listens on \(store.endpointUrl)"
                : "cannot reach \(store.endpointUrl): \(text.prefix(200))"
        }
        switch error {
        case .connectTimeout, .deadlineExceeded, .readTimeout:
            return "\(store.endpointUrl) does not answer within \(patience.nanoseconds / 1_000_000_000) seconds"
        case .remoteConnectionClosed:
            return "\(store.endpointUrl) closed the connection: does it speak \(store.endpointUrl.prefix { $0 != ":" })?"
        default: return "cannot reach \(store.endpointUrl): \(error)"
        }
    }

    private static func diagnosis(_ failure: S3Failure, _ store: ObjectStore) -> String {
        switch failure.code {
        case "InvalidAccessKeyId": "the store does not know the access key \(store.accessId)"
        case "SignatureDoesNotMatch": "the secret is wrong, or the region '\(store.region)' is"
        case "RequestTimeTooSkewed": "this machine's clock and the store's differ too much"
        case "AccessDenied": "the access key may not do this in the bucket '\(store.bucketName)': \(failure.message)"
        case "NoSuchBucket": "there is no bucket '\(store.bucketName)'"
        case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect":
            "the bucket is in another region than '\(store.region)': \(failure.message)"
        default: failure.description
        }
    }
}
