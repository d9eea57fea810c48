import Resource

/// Copies inside the server: blocks are shared where the filesystem can, no byte passes through memory.
extension S3Service {
    /// The object a copy reads, named by `x-amz-copy-source`.
    private func source(_ request: S3Request) throws -> (object: OpenObject, bucket: String, key: ObjectKey) {
        guard let header = request.header("x-amz-copy-source") else { throw S3Error(.invalidArgument, "x-amz-copy-source is missing") }
        let parts = header.utf8.split(separator: UInt8(ascii: "?"), maxSplits: 1)
        if parts.count > 1, !parts[1].elementsEqual("versionId=null".utf8) {
            throw S3Error(.notImplemented, "there are no versions to copy from")
        }
        guard var path = PercentEncoding.decode(parts.first ?? "".utf8[...]) else {
            throw S3Error(.invalidArgument, "x-amz-copy-source is not percent-encoded properly")
        }
        if path.first == UInt8(ascii: "/") { path.removeFirst() }
        guard let slash = path.firstIndex(of: UInt8(ascii: "/")), let name = String(validating: path[..<slash], as: UTF8.self) else {
            throw S3Error(.invalidArgument, "x-amz-copy-source must be BUCKET/KEY")
        }
        let bucket = try bucket(name, for: request.caller.credential)
        let keyBytes = Array(path[(slash + 1)...])
        let key = try ObjectKey(keyBytes)
        try request.check(key: keyBytes, writes: false)
        guard let object = try tree(bucket).object(key) else { throw S3Error(.noSuchKey, "there is no object '\(key.text)' to copy") }
        let conditions = Preconditions(request.head, prefix: "x-amz-copy-source-")
        guard conditions.forReading(etag: object.state.etag, modified: object.state.modified) == .proceed else {
            throw S3Error(.preconditionFailed, "a condition on the copy's source does not hold")
        }
        return (object, bucket.id, key)
    }

    func copyObject(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: true)
        let (object, sourceBucket, sourceKey) = try source(request)
        let replaces = try Self.directive(request, "x-amz-metadata-directive")
        guard replaces || sourceBucket != tree.id || sourceKey != key else {
            throw S3Error(.invalidRequest, "a copy onto itself must change something: set x-amz-metadata-directive to REPLACE")
        }
        let conditions = Preconditions(request.head)
        if key.isDirectory {
            let state = try tree.putDirectory(key, if: conditions)
            return Self.copied("CopyObjectResult", state.etag, nil, state.modifiedNs)
        }
        guard !object.isDirectory else { throw S3Error(.keyConflict, "a folder cannot be copied to a key without '/' at its end") }
        var record = try Self.record(of: request)
        if !replaces { (record.headers, record.metadata) = (object.record.headers, object.record.metadata) }
        if !(try Self.directive(request, "x-amz-tagging-directive")) { record.tags = object.record.tags }
        record.etag = object.record.etag
        (record.checksum, record.parts) = (object.record.checksum, object.record.parts)
        let staged = try tree.stage()
        try staged.append(from: object.descriptor.raw, ByteRange(offset: 0, length: object.state.size))
        let state = try tree.publish(staged, as: key, record, if: conditions, time: nowMilliseconds)
        return Self.copied("CopyObjectResult", state.etag, record.checksum, state.modifiedNs)
    }

    /// Whether a directive says REPLACE.
    private static func directive(_ request: S3Request, _ name: String) throws(S3Error) -> Bool {
        switch request.header(name)?.uppercased() {
        case nil, "COPY": return false
        case "REPLACE": return true
        default: throw S3Error(.invalidArgument, "\(name) must be COPY or REPLACE")
        }
    }

    func uploadPartCopy(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: true)
        let (number, upload) = try part(request, tree, key)
        let (object, _, _) = try source(request)
        let range = try ByteRange.copySource(request.header("x-amz-copy-source-range"), size: object.state.size)
        let staged = try tree.stagePart(of: upload)
        try staged.append(from: object.descriptor.raw, range)
        // Nobody read the bytes, so there is no MD5 of them: the ETag tells the same parts from others, which is its job.
        let origin = "\(object.state.etag) \(range.offset) \(range.length)"
        let record = ObjectRecord(etag: Digest.md5(origin))
        let time = nowMilliseconds
        try tree.publishPart(number, of: upload, staged, record, time: time)
        return Self.copied("CopyPartResult", record.etag ?? "", nil, time * 1_000_000)
    }

    private static func copied(
        _ root: String, _ etag: String, _ checksum: ObjectRecord.StoredChecksum?, _ modifiedNs: Int64
    ) -> Answer {
        .xml(root) { xml in
            xml.text("LastModified", Timestamp.text(modifiedNs / 1_000_000))
            xml.text("ETag", "\"\(etag)\"")
            if let checksum {
                xml.text(checksum.algorithm.element, checksum.value)
                xml.text("ChecksumType", checksum.type)
            }
        }
    }
}
