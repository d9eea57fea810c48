/// One request as the operations see it: signed, addressed, allowed.
struct S3Request {
    let head: RequestHead
    let caller: Caller
    let body: BodyReader
    let bucketName: String
    /// Empty for the bucket itself.
    let keyBytes: [UInt8]
    let service: S3Service

    var directory: any BucketDirectory { service.directory }

    func header(_ name: String) -> String? { head.header(name) }
    func parameter(_ name: String) -> String? { head.parameter(name) }

    /// The bucket, if the credential reaches it.
    func bucket() throws(S3Error) -> Bucket { try service.bucket(bucketName, for: caller.credential) }

    func key() throws(S3Error) -> ObjectKey { try ObjectKey(keyBytes) }

    /// The bucket's tree and the key, if the credential may do this to it.
    func object(writes: Bool) throws -> (tree: VolumeTree, key: ObjectKey) {
        let bucket = try bucket()
        let key = try key()
        try check(key: keyBytes, writes: writes)
        return (try service.tree(bucket), key)
    }

    func check(key: [UInt8], writes: Bool) throws(S3Error) {
        guard !writes || !caller.credential.isReadOnly else { throw S3Error(.accessDenied, "the access key may only read") }
        guard caller.credential.allows(key: key) else {
            throw S3Error(.accessDenied, "the access key is limited to keys with other prefixes")
        }
    }

    /// A small XML body, parsed.
    func document(limit: Int = XMLReader.maximumBytes, checksumIsOfObject: Bool = false) throws -> XMLReader.Element {
        var payload = try Payload(head, caller, body, checksumIsOfObject: checksumIsOfObject)
        return try XMLReader.parse(payload.collect(limit: limit))
    }
}
