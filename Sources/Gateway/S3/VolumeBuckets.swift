import ControlPlane
import Disk
import Dispatch
import Foundation
import Resource
import S3

/// What a task found out, for the thread that waits for it.
private final class Box<Value>: @unchecked Sendable {
    // Written before the semaphore is signalled, read after it was waited for.
    var outcome: Result<Value, any Error>?
}

/// Network volumes as buckets: what the S3 door asks, answered by the control plane.
struct VolumeBuckets: BucketDirectory {
    let plane: Plane
    /// Opened secrets by their sealed form: a request costs no decryption.
    private let secrets = Locked<[String: String]>([:])

    init(plane: Plane) { self.plane = plane }

    private func secret(of key: S3Key) -> String? {
        if let known = secrets.withLock({ $0[key.sealedSecret] }) { return known }
        guard let secret = try? plane.catalog.secret(of: key) else { return nil }
        secrets.withLock { secrets in
            if secrets.count >= 1_024 { secrets.removeAll() }
            secrets[key.sealedSecret] = secret
        }
        return secret
    }

    private var volumes: [NetworkVolume] { plane.catalog.snapshot.volumes.values.filter { $0.state == .ready } }

    func credential(_ accessKey: String) -> Credential? {
        if let secret = plane.places.doorSecret(of: accessKey) {
            return Credential(accessKey: accessKey, secret: secret, managesBuckets: false)
        }
        guard let key = plane.catalog.s3KeyIfKnown(accessKey), let secret = secret(of: key) else { return nil }
        return Credential(
            accessKey: key.accessKeyId, secret: secret, volumes: key.volumeIds.isEmpty ? nil : Set(key.volumeIds), prefixes: key.prefixes,
            isReadOnly: key.readOnly, managesBuckets: key.manageBuckets, expiresAt: key.expiresAt)
    }

    func bucket(_ name: String) -> Bucket? {
        if let volume = plane.catalog.volumeIfKnown(name), volume.state == .ready { return bucket(volume, name: volume.id) }
        let volumes = volumes
        let named = volumes.filter { $0.name == name }
        return named.count == 1 ? bucket(named[0], name: named[0].id) : nil
    }

    func buckets() -> [Bucket] {
        let volumes = volumes
        let names = Dictionary(grouping: volumes, by: \.name)
        return volumes.map { volume in
            let isOwn = volume.isBucket == true && names[volume.name]?.count == 1 && plane.catalog.volumeIfKnown(volume.name) == nil
            return bucket(volume, name: isOwn ? volume.name : volume.id)
        }.sorted { $0.name < $1.name }
    }

    private func bucket(_ volume: NetworkVolume, name: String) -> Bucket {
        let paths = plane.volumes.paths(of: volume)
        return Bucket(
            id: volume.id, name: name, dataCenter: volume.dataCenterId, createdAt: volume.createdAt,
            data: paths.dataPath, staging: paths.stagingPath)
    }

    func create(_ name: String, hints: [String], sizeGb: Int?) throws(S3Error) -> Bucket {
        let centers = plane.catalog.dataCenters.map(\.id)
        let hinted = hints.lazy.compactMap { hint in centers.first { $0.lowercased() == hint.lowercased() } }.first
        let minimum = plane.configuration.minimumVolumeGb
        let size = sizeGb ?? plane.configuration.s3.bucketSizeGb ?? minimum
        guard (minimum...NetworkVolume.maximumSize).contains(size) else {
            throw S3Error(.invalidArgument, "x-roost-size-gb: got \(size); allowed: \(minimum) to \(NetworkVolume.maximumSize)")
        }
        guard let center = hinted ?? centers.first else { throw S3Error(.internalError, "there is no data center") }
        let plane = plane
        let volume = try Self.wait { try await plane.volumes.create(name: name, size: size, dataCenterId: center, isBucket: true) }
        return bucket(volume, name: name)
    }

    func delete(_ bucket: Bucket) throws(S3Error) {
        let plane = plane
        try Self.wait { try await plane.volumes.delete(bucket.id, mountedBy: await plane.workers.mounting(bucket.id)) }
    }

    /// The bridge from the door's threads, which may wait, to the control plane's actors.
    private static func wait<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) throws(S3Error) -> Value {
        let (box, done) = (Box<Value>(), DispatchSemaphore(value: 0))
        Task {
            do { box.outcome = .success(try await body()) } catch { box.outcome = .failure(error) }
            done.signal()
        }
        done.wait()
        switch box.outcome {
        case .success(let value): return value
        case .failure(let error): throw mapped(error)
        case nil: throw S3Error(.internalError, "the control plane did not answer")
        }
    }

    private static func mapped(_ error: any Error) -> S3Error {
        guard let error = error as? RoostError else { return S3Error(.internalError, "internal error; the server's log says more") }
        switch error.code {
        case .invalid: return S3Error(.invalidArgument, error.message)
        case .unauthorized, .forbidden: return S3Error(.accessDenied, error.message)
        case .notFound: return S3Error(.noSuchBucket, error.message)
        case .conflict: return S3Error(.operationAborted, error.message)
        case .tooLarge: return S3Error(.entityTooLarge, error.message)
        case .busy: return S3Error(.slowDown, error.message)
        case .noSpace: return S3Error(.insufficientStorage, error.message)
        case .unavailable: return S3Error(.serviceUnavailable, error.message)
        case .internalFault: return S3Error(.internalError, error.message)
        }
    }
}
