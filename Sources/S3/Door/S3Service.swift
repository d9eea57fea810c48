import Disk
import Glibc
import Logging
import Synchronization

/// All operations of the door, free of sockets.
final class S3Service: Sendable {
    let directory: any BucketDirectory
    let authenticator: Authenticator
    let shared = TreeShared()
    let gate = BucketGate()
    let readsAhead = Atomic(false)
    let domains: [String]
    let log: Logger

    init(directory: any BucketDirectory, domains: [String], log: Logger) {
        self.directory = directory
        self.domains = domains
        self.log = log
        authenticator = Authenticator(directory)
    }

    var nowMilliseconds: Int64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Int64(now.tv_sec) * 1_000 + Int64(now.tv_nsec) / 1_000_000
    }

    func tree(_ bucket: Bucket) throws -> VolumeTree {
        try VolumeTree(id: bucket.id, data: bucket.data, staging: bucket.staging, shared: shared)
    }

    /// The bucket of a name, for a credential. One that it may not see is denied, there or not.
    func bucket(_ name: String, for credential: Credential) throws(S3Error) -> Bucket {
        guard let bucket = directory.bucket(name) else {
            guard credential.volumes == nil else {
                throw S3Error(.accessDenied, "the access key does not reach the bucket '\(name.prefix(80))'")
            }
            if Self.isMonth(name) {
                throw S3Error(
                    .noSuchBucket,
                    "there is no bucket '\(name)': rp_upload makes that name up from the month where none is given. Put the volume into "
                        + "BUCKET_ENDPOINT_URL or endpointUrl (http://HOST:PORT/VOLUME), or pass bucket_name")
            }
            throw S3Error(.noSuchBucket, "there is no bucket '\(name.prefix(80))': a bucket is a network volume, by id or unique name")
        }
        guard credential.allows(volume: bucket.id) else {
            throw S3Error(.accessDenied, "the access key does not reach the bucket '\(name.prefix(80))'")
        }
        return bucket
    }

    /// `11-26`: what RunPod's SDK calls a bucket that nobody named.
    private static func isMonth(_ name: String) -> Bool {
        let parts = name.split(separator: "-", omittingEmptySubsequences: false)
        return parts.count == 2 && parts.allSatisfy { $0.utf8.count == 2 && $0.allSatisfy(\.isNumber) }
    }

    /// Answers a request, or throws what it is refused with.
    func answer(_ head: RequestHead, body: BodyReader) throws -> Answer {
        let address = try Address(head, domains: domains)
        if head.method == "OPTIONS" { return try CORS.preflight(head) }
        if head.method == "POST", address.key.isEmpty, head.header("content-type")?.lowercased().hasPrefix("multipart/form-data") == true {
            return try formUpload(head, bucketName: address.bucket ?? "", body)
        }
        let caller = try authenticator.caller(head, bucketInHost: address.isVirtualHost ? address.bucket : nil)
        guard let bucketName = address.bucket else {
            guard head.method == "GET" else { throw S3Error(.methodNotAllowed, "\(head.method) needs a bucket") }
            return listBuckets(caller)
        }
        let request = S3Request(
            head: head, caller: caller, body: body, bucketName: bucketName, keyBytes: address.key, service: self)
        let operation = try Operation(head, hasKey: !address.key.isEmpty)
        return try gated(bucketName, operation) { try perform(operation, request) }
    }

    /// Counts the request while it works on its bucket, so that the bucket is not deleted under it.
    private func gated(_ name: String, _ operation: Operation, _ body: () throws -> Answer) throws -> Answer {
        guard operation != .createBucket, operation != .deleteBucket, let id = directory.bucket(name)?.id else { return try body() }
        try gate.enter(id)
        defer { gate.leave(id) }
        return try body()
    }

    /// The border of this layer: every error as S3 knows it.
    func mapped(_ error: any Error) -> S3Error {
        if let error = error as? S3Error { return error }
        guard let error = error as? DiskError else {
            log.error("request failed", metadata: ["error": "\(error)"])
            return S3Error(.internalError, "internal error; the server's log says more")
        }
        switch error.errno {
        case ENOSPC, EDQUOT: return S3Error(.insufficientStorage, "the volume is full: delete something, or grow the volume")
        case EXDEV where error.operation == "open":
            return S3Error(.accessDenied, "the key's path leaves the volume through a symbolic link")
        case ELOOP where error.operation == "open": return S3Error(.accessDenied, "the key's path goes through too many symbolic links")
        case ENAMETOOLONG: return S3Error(.keyTooLong, "a part of the key is too long for the filesystem")
        case ENOTDIR, EISDIR: return S3Error(.keyConflict, "a file stands where the key needs a folder, or the reverse")
        case EROFS: return S3Error(.accessDenied, "the volume is read-only")
        case EFBIG: return S3Error(.entityTooLarge, "the object is too large for the filesystem")
        case EMFILE, ENFILE: return S3Error(.slowDown, "too many files are open: try again")
        default:
            log.error("request failed", metadata: ["error": "\(error)"])
            return S3Error(.internalError, "internal error; the server's log says more")
        }
    }
}
