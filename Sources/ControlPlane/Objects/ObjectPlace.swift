import Disk
import Resource
import S3

/// Somewhere objects lie: a named store of the user's, or a network volume, which is reached through this server's S3 door.
package struct ObjectPlace: Sendable {
    package enum Name: Sendable, Equatable {
        case store(String)
        case volume(String)

        /// `store:NAME` or `volume:ID`; nil for anything else.
        package init?(_ text: String) {
            if text.hasPrefix("store:"), text.count > 6 {
                self = .store(String(text.dropFirst(6)))
            } else if text.hasPrefix("volume:"), text.count > 7 {
                self = .volume(String(text.dropFirst(7)))
            } else {
                return nil
            }
        }

        package var text: String {
            switch self {
            case .store(let name): "store:\(name)"
            case .volume(let id): "volume:\(id)"
            }
        }

        /// As a member of a `$ref`: `"store": NAME` or `"volume": ID`.
        var member: JSON.Member {
            switch self {
            case .store(let name): .init("store", .string(name))
            case .volume(let id): .init("volume", .string(id))
            }
        }
    }

    package var name: Name
    /// Reaches it from this machine.
    package var client: S3Client
    package var bucket: String
    /// In front of every key: empty, or with a slash at its end.
    package var prefix: String
    /// Where others reach it, for presigned URLs.
    var publicEndpoint: String

    package func key(_ path: String) -> String { prefix + path }

    /// A URL with which others read or write one object.
    package func presign(_ method: PresignedMethod, key: String, seconds: Int64, at now: Milliseconds) throws -> String {
        var client = client
        client.endpoint = publicEndpoint
        return try client.presign(method == .get ? .GET : .PUT, bucket, key, seconds: seconds, at: now)
    }

    package enum PresignedMethod: Sendable { case get, put }
}

/// Where the S3 door is, once it listens.
package struct DoorAddress: Sendable {
    /// For this machine, and for others.
    package var own: String
    package var published: String

    package init(own: String, published: String) { (self.own, self.published) = (own, published) }
}

/// Finds places by name.
package struct ObjectPlaces: Sendable {
    /// Access keys that begin so are the server's own; no key of a user's does.
    private static let ownKeys = "ROOST-"
    private static let doorPurpose = "s3 door"

    let catalog: Catalog
    private let secrets: SecretBox
    private let door = Locked<DoorAddress?>(nil)

    package init(catalog: Catalog, secrets: SecretBox) { (self.catalog, self.secrets) = (catalog, secrets) }

    package func open(_ address: DoorAddress) { door.withLock { $0 = address } }

    package func place(_ name: ObjectPlace.Name) throws -> ObjectPlace {
        switch name {
        case .store(let name): try place(of: catalog.objectStore(name))
        case .volume(let id): try place(volume: id)
        }
    }

    package func place(of store: ObjectStore) throws -> ObjectPlace {
        var client = S3Client(
            endpoint: store.endpointUrl, region: store.region, accessKey: store.accessId, secret: try catalog.secret(of: store))
        client.addressing = store.addressing.flatMap(S3Client.Addressing.init) ?? .path
        return ObjectPlace(
            name: .store(store.name), client: client, bucket: store.bucketName, prefix: store.prefix.isEmpty ? "" : store.prefix + "/",
            publicEndpoint: store.endpointUrl)
    }

    private func place(volume id: String) throws -> ObjectPlace {
        guard let volume = catalog.volumeIfKnown(id), volume.state == .ready else {
            throw RoostError(.notFound, "there is no network volume \(id.prefix(80))")
        }
        guard let address = door.withLock({ $0 }) else {
            throw RoostError(.unavailable, "the S3 door is off, and objects of a volume go through it: set --s3-listen")
        }
        let (keyID, secret) = secrets.derive(Self.doorPurpose)
        var client = S3Client(
            endpoint: address.own, region: volume.dataCenterId, accessKey: Self.ownKeys + keyID, secret: secret)
        client.http = .ownDoor
        return ObjectPlace(name: .volume(volume.id), client: client, bucket: volume.id, prefix: "", publicEndpoint: address.published)
    }

    /// The secret of an access key that is the server's own; nil for all others.
    package func doorSecret(of accessKey: String) -> String? {
        guard accessKey.hasPrefix(Self.ownKeys) else { return nil }
        return secrets.derived(Self.doorPurpose, keyID: String(accessKey.dropFirst(Self.ownKeys.count)))
    }

    /// What went wrong with a place, for people.
    package func explain(_ error: any Error, _ place: ObjectPlace) -> String {
        if case .store(let name) = place.name, let store = try? catalog.objectStore(name) { return StoreProbe.diagnosis(error, store) }
        return "\(error)"
    }
}
