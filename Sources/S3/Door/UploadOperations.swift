import Crypto
import Resource

/// Uploads in parts.
extension S3Service {
    func createUpload(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: true)
        guard !key.isDirectory else { throw S3Error(.invalidRequest, "a key that ends with '/' is a folder: it has no parts") }
        let (algorithm, isFull) = try Self.checksum(request)
        let upload = Upload(
            id: Identifier.uuid(), key: key, initiated: nowMilliseconds, record: try Self.record(of: request), algorithm: algorithm,
            isFullObject: isFull)
        try tree.createUpload(upload)
        var answer = Answer.xml("InitiateMultipartUploadResult") { xml in
            xml.text("Bucket", request.bucketName)
            xml.text("Key", key.text)
            xml.text("UploadId", upload.id)
        }
        if let algorithm {
            answer.headers.append(("x-amz-checksum-algorithm", algorithm.rawValue))
            answer.headers.append(("x-amz-checksum-type", isFull ? "FULL_OBJECT" : "COMPOSITE"))
        }
        return answer
    }

    private static func checksum(_ request: S3Request) throws(S3Error) -> (ChecksumAlgorithm?, Bool) {
        guard let name = request.header("x-amz-checksum-algorithm") else { return (nil, false) }
        guard let algorithm = ChecksumAlgorithm(rawValue: name.uppercased()) else {
            throw S3Error(.invalidRequest, "x-amz-checksum-algorithm must be one of CRC32, CRC32C, CRC64NVME, SHA1, SHA256")
        }
        let type = request.header("x-amz-checksum-type")?.uppercased() ?? (algorithm == .crc64nvme ? "FULL_OBJECT" : "COMPOSITE")
        let isFull = type == "FULL_OBJECT"
        guard isFull || type == "COMPOSITE", isFull ? algorithm.isCombinable : algorithm != .crc64nvme else {
            throw S3Error(.invalidRequest, "x-amz-checksum-type \(type) does not go with \(algorithm.rawValue)")
        }
        return (algorithm, isFull)
    }

    /// The part number and the upload that a request names.
    func part(_ request: S3Request, _ tree: VolumeTree, _ key: ObjectKey) throws -> (number: Int, upload: Upload) {
        guard let number = request.parameter("partNumber").flatMap(HTTPHead.number), (1...VolumeTree.maximumParts).contains(number) else {
            throw S3Error(.invalidArgument, "partNumber must be from 1 to \(VolumeTree.maximumParts)")
        }
        return (number, try tree.upload(request.parameter("uploadId") ?? "", key: key))
    }

    func uploadPart(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: true)
        let (number, upload) = try part(request, tree, key)
        var payload = try Payload(request.head, request.caller, request.body, algorithm: upload.algorithm)
        let received = try receive(&payload, request, tree) { try tree.stagePart(of: upload) }
        var record = ObjectRecord(etag: received.payload.md5)
        record.checksum = received.payload.checksum
        try tree.publishPart(number, of: upload, received.file, record, time: nowMilliseconds)
        return Answer(200, headers: Self.written(received.payload.md5, record.checksum).filter { $0.name != "x-amz-checksum-type" })
    }

    func listParts(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: false)
        let upload = try tree.upload(request.parameter("uploadId") ?? "", key: key)
        let limit = try Self.limit(request, "max-parts", 1_000)
        let marker = request.parameter("part-number-marker").flatMap(HTTPHead.number) ?? 0
        let rest = try tree.parts(of: upload.id).filter { $0.number > marker }
        let page = rest.prefix(limit)
        return .xml("ListPartsResult") { xml in
            xml.text("Bucket", request.bucketName)
            xml.text("Key", key.text)
            xml.text("UploadId", upload.id)
            Self.owner(&xml, request.caller, element: "Initiator")
            Self.owner(&xml, request.caller)
            xml.text("StorageClass", "STANDARD")
            xml.text("PartNumberMarker", String(marker))
            xml.text("NextPartNumberMarker", String(page.last?.number ?? 0))
            xml.text("MaxParts", String(limit))
            xml.text("IsTruncated", String(page.count < rest.count && limit > 0))
            if let algorithm = upload.algorithm { xml.text("ChecksumAlgorithm", algorithm.rawValue) }
            for part in page {
                xml.element("Part") { xml in
                    xml.text("PartNumber", String(part.number))
                    xml.text("LastModified", Timestamp.text(part.modifiedNs / 1_000_000))
                    xml.text("ETag", "\"\(part.etag)\"")
                    xml.text("Size", String(part.size))
                    if let checksum = part.checksum { xml.text(checksum.algorithm.element, checksum.value) }
                }
            }
        }
    }

    func abortUpload(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: true)
        try tree.abort(tree.upload(request.parameter("uploadId") ?? "", key: key))
        return Answer(204)
    }

    func completeUpload(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: true)
        let id = request.parameter("uploadId") ?? ""
        if try tree.completed(id, key) == nil { _ = try tree.upload(id, key: key) }
        let items = try Self.parts(request.document(checksumIsOfObject: true))
        let expected = ChecksumAlgorithm.allCases.lazy.compactMap { request.header($0.header) }.first
        let list = VolumeTree.PartList(items: items, expected: expected)
        let (bucketName, conditions) = (request.bucketName, Preconditions(request.head))
        let host = request.header("host") ?? ""
        let body = Answer.Body.slow { pause in
            // This runs while the answer is sent, after the request itself was counted out.
            try self.gate.enter(tree.id)
            defer { self.gate.leave(tree.id) }
            let done = try tree.complete(id, key, list, if: conditions, time: self.nowMilliseconds, pause: pause)
            var xml = XMLWriter()
            xml.element("CompleteMultipartUploadResult", attributes: XMLWriter.namespace) { xml in
                xml.text("Location", "http://\(host)/\(bucketName)/\(Self.shown(Array(key.text.utf8), encoded: true))")
                xml.text("Bucket", bucketName)
                xml.text("Key", key.text)
                xml.text("ETag", "\"\(done.etag)\"")
                if let checksum = done.checksum {
                    xml.text(checksum.algorithm.element, checksum.value)
                    xml.text("ChecksumType", checksum.type)
                }
            }
            return xml.bytes
        }
        return Answer(200, headers: [("Content-Type", "application/xml")], body: body)
    }

    private static func parts(_ document: XMLReader.Element) throws(S3Error) -> [VolumeTree.PartList.Item] {
        let parts = document.all("Part")
        guard document.name == "CompleteMultipartUpload", (1...VolumeTree.maximumParts).contains(parts.count) else {
            throw S3Error(.malformedXML, "expected <CompleteMultipartUpload> with 1 to \(VolumeTree.maximumParts) of <Part>")
        }
        var items: [VolumeTree.PartList.Item] = []
        for part in parts {
            guard let number = part["PartNumber"].flatMap({ HTTPHead.number($0.text) }), let etag = part["ETag"]?.text else {
                throw S3Error(.malformedXML, "a <Part> needs <PartNumber> and <ETag>")
            }
            guard number > items.last?.number ?? 0 else { throw S3Error(.invalidPartOrder, "the parts are not in ascending order") }
            let checksum = ChecksumAlgorithm.allCases.lazy.compactMap { part[$0.element]?.text }.first
            items.append(.init(number: number, etag: etag.filter { $0 != "\"" }, checksum: checksum))
        }
        return items
    }
}

/// MD5 as ETags carry it.
package enum Digest {
    static func md5(_ text: String) -> String { Signature.text(Insecure.MD5.hash(data: Array(text.utf8))) }

    package static func md5(_ bytes: UnsafeRawBufferPointer) -> String { Signature.text(md5Bytes(bytes)) }

    static func md5Bytes(_ bytes: UnsafeRawBufferPointer) -> Insecure.MD5Digest {
        var hash = Insecure.MD5()
        hash.update(bufferPointer: bytes)
        return hash.finalize()
    }
}
