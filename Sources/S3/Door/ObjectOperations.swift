import Glibc
import Resource

/// Objects: read, written, removed.
extension S3Service {
    // MARK: - Reading

    func getObject(_ request: S3Request, isHead: Bool) throws -> Answer {
        let (tree, key) = try request.object(writes: false)
        guard let object = try tree.object(key) else { throw S3Error(.noSuchKey, "there is no object '\(key.text)'") }
        var headers = [("ETag", "\"\(object.state.etag)\""), ("Last-Modified", HTTPDate.text(object.state.modified))]
        switch Preconditions(request.head).forReading(etag: object.state.etag, modified: object.state.modified) {
        case .failed: throw S3Error(.preconditionFailed, "the object's ETag is \"\(object.state.etag)\"")
        case .notModified: return Answer(304, headers: headers.map { (name: $0.0, value: $0.1) })
        case .proceed: break
        }
        let size = object.state.size
        var range = try ByteRange.parse(request.header("range"), size: size)
        if let number = request.parameter("partNumber") {
            range = try Self.part(number, of: object)
            headers.append(("x-amz-mp-parts-count", String(Self.partCount(object.record))))
        }
        headers += Self.storedHeaders(object)
        headers.append(("Accept-Ranges", "bytes"))
        headers = try Self.override(headers, request)
        if range == nil, request.header("x-amz-checksum-mode")?.uppercased() == "ENABLED", let checksum = object.record.checksum {
            headers += [(checksum.algorithm.header, checksum.value), ("x-amz-checksum-type", checksum.type)]
        }
        if let range { headers.append(("Content-Range", "bytes \(range.offset)-\(range.offset + range.length - 1)/\(size)")) }
        let all = headers.map { (name: $0.0, value: $0.1) }
        let served = range ?? ByteRange(offset: 0, length: size)
        if isHead || served.length == 0 {
            var answer = Answer(range == nil ? 200 : 206, headers: all)
            answer.announcedLength = served.length
            return answer
        }
        return Answer(range == nil ? 200 : 206, headers: all, body: .file(object.descriptor, served))
    }

    private static func storedHeaders(_ object: OpenObject) -> [(String, String)] {
        let record = object.record
        let standard = object.isDirectory ? "application/x-directory" : "binary/octet-stream"
        var headers = [("Content-Type", record.headers["content-type"] ?? standard)]
        for name in ObjectRecord.keptHeaders.dropFirst() {
            if let value = record.headers[name] { headers.append((name, value)) }
        }
        for (name, value) in record.metadata.sorted(by: { $0.key < $1.key }) { headers.append(("x-amz-meta-" + name, value)) }
        if !record.tags.list.isEmpty { headers.append(("x-amz-tagging-count", String(record.tags.list.count))) }
        return headers
    }

    /// `response-content-type` and its kin replace what is stored.
    private static func override(_ headers: [(String, String)], _ request: S3Request) throws(S3Error) -> [(String, String)] {
        var headers = headers
        for name in ObjectRecord.keptHeaders {
            guard let value = request.parameter("response-" + name) else { continue }
            guard ObjectRecord.isPlain(value) else { throw S3Error(.invalidArgument, "response-\(name) has control characters") }
            headers.removeAll { $0.0.lowercased() == name }
            headers.append((name, value))
        }
        return headers
    }

    /// Sizes of a multipart object's parts, as runs.
    private static func runs(_ record: ObjectRecord) -> [(size: Int64, count: Int64)] {
        (record.parts ?? "").split(separator: ",").compactMap { run in
            let numbers = run.split(separator: "x").compactMap { Int64($0) }
            return numbers.count == 2 && numbers.allSatisfy { $0 >= 0 } ? (numbers[0], min(numbers[1], 10_000)) : nil
        }
    }

    private static func partCount(_ record: ObjectRecord) -> Int64 { max(1, runs(record).reduce(0) { $0 + $1.count }) }

    private static func part(_ text: String, of object: OpenObject) throws(S3Error) -> ByteRange? {
        guard let number = HTTPHead.number(text), (1...VolumeTree.maximumParts).contains(number) else {
            throw S3Error(.invalidArgument, "partNumber must be from 1 to \(VolumeTree.maximumParts)")
        }
        let size = object.state.size
        var (offset, left) = (Int64(0), Int64(number))
        for run in runs(object.record) {
            // A worker may have written the record: nothing in it may reach beyond the object, or beyond an integer.
            let (bytes, isTooLarge) = run.size.multipliedReportingOverflow(by: min(left - 1, run.count))
            guard !isTooLarge, bytes <= size - offset else { break }
            offset += bytes
            guard left > run.count else {
                guard run.size <= size - offset else { break }
                return ByteRange(offset: offset, length: run.size)
            }
            left -= run.count
        }
        guard number == 1, object.record.parts == nil else { throw S3Error(.invalidPartNumber, "the object has no part \(number)") }
        return size > 0 ? ByteRange(offset: 0, length: size) : nil
    }

    func getAttributes(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: false)
        guard let object = try tree.object(key) else { throw S3Error(.noSuchKey, "there is no object '\(key.text)'") }
        let wanted = Set((request.header("x-amz-object-attributes") ?? "").split(separator: ",").map { $0.drop { $0 == " " } })
        guard !wanted.isEmpty else { throw S3Error(.invalidArgument, "x-amz-object-attributes must name what is wanted") }
        var answer = Answer.xml("GetObjectAttributesResponse") { xml in
            if wanted.contains("ETag") { xml.text("ETag", object.state.etag) }
            if wanted.contains("Checksum"), let checksum = object.record.checksum {
                xml.element("Checksum") { xml in
                    xml.text(checksum.algorithm.element, checksum.value)
                    xml.text("ChecksumType", checksum.type)
                }
            }
            if wanted.contains("ObjectParts"), object.record.parts != nil {
                xml.element("ObjectParts") { xml in xml.text("PartsCount", String(Self.partCount(object.record))) }
            }
            if wanted.contains("StorageClass") { xml.text("StorageClass", "STANDARD") }
            if wanted.contains("ObjectSize") { xml.text("ObjectSize", String(object.state.size)) }
        }
        answer.headers.append(("Last-Modified", HTTPDate.text(object.state.modified)))
        return answer
    }

    func getObjectACL(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: false)
        guard try tree.object(key) != nil else { throw S3Error(.noSuchKey, "there is no object '\(key.text)'") }
        return Self.accessControl(request.caller)
    }

    // MARK: - Writing

    func putObject(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: true)
        var record = try Self.record(of: request)
        let conditions = Preconditions(request.head)
        var payload = try Payload(request.head, request.caller, request.body)
        if key.isDirectory { return try putDirectory(tree, key, conditions, &payload) }
        // Refused before the body comes, where that can be known; judged again when it is published.
        if !conditions.isEmpty { try conditions.checkWriting(over: tree.object(key)?.state.etag) }
        let received = try receive(&payload, request, tree) { try tree.stage() }
        record.etag = received.payload.md5
        record.checksum = received.payload.checksum
        let state = try tree.publish(received.file, as: key, record, if: conditions, time: nowMilliseconds)
        return Answer(200, headers: Self.written(state.etag, record.checksum))
    }

    private func putDirectory(_ tree: VolumeTree, _ key: ObjectKey, _ conditions: Preconditions, _ payload: inout Payload) throws -> Answer
    {
        guard (payload.length ?? 0) == 0, try payload.collect(limit: 0).isEmpty else {
            throw S3Error(.invalidRequest, "a key that ends with '/' is a folder: its body must be empty")
        }
        return Answer(200, headers: Self.written(try tree.putDirectory(key, if: conditions).etag, nil))
    }

    /// Writes a payload into a staged file, as long as the volume has room for it.
    func receive(
        _ payload: inout Payload, _ request: S3Request, _ tree: VolumeTree, _ stage: () throws -> StagedFile
    ) throws -> (file: StagedFile, payload: Payload.Received) {
        guard payload.length != nil || request.head.header("transfer-encoding") != nil else {
            throw S3Error(.missingContentLength, "Content-Length is missing")
        }
        if let length = payload.length, Int64(length) > tree.freeBytes {
            throw S3Error(.insufficientStorage, "the volume has \(tree.freeBytes) bytes left, fewer than the \(length) of the body")
        }
        let staged = try stage()
        let received = try payload.receive { try staged.append($0) }
        return (staged, received)
    }

    static func written(_ etag: String, _ checksum: ObjectRecord.StoredChecksum?) -> [(name: String, value: String)] {
        var headers = [(name: "ETag", value: "\"\(etag)\"")]
        if let checksum {
            headers += [(name: checksum.algorithm.header, value: checksum.value), (name: "x-amz-checksum-type", value: checksum.type)]
        }
        return headers
    }

    /// What a request wants to be stored with the object; refuses what would be promised and not kept.
    static func record(of request: S3Request) throws(S3Error) -> ObjectRecord {
        try record(headers: request.head.headers)
    }

    static func record(headers: [(name: String, value: String)]) throws(S3Error) -> ObjectRecord {
        var record = ObjectRecord()
        var bytes = 0
        for (name, value) in headers {
            // A form's fields are no headers yet: what they hold must be fit to become one.
            guard ObjectRecord.isPlain(value) || !(ObjectRecord.keptHeaders.contains(name) || name.hasPrefix("x-amz-meta-")) else {
                throw S3Error(.invalidArgument, "\(name.prefix(80)) has control characters")
            }
            if ObjectRecord.keptHeaders.contains(name) {
                record.headers[name] = name == "content-encoding" ? contentEncoding(value) : value
            } else if name.hasPrefix("x-amz-meta-") {
                let short = String(name.dropFirst("x-amz-meta-".count))
                guard ObjectRecord.isName(short) else { throw S3Error(.invalidArgument, "a metadata name is empty or not plain ASCII") }
                record.metadata[short] = record.metadata[short].map { $0 + "," + value } ?? value
                bytes += short.utf8.count + value.utf8.count
            } else {
                try refuse(name, value)
            }
            if name == "x-amz-tagging" { record.tags = try Tags(header: value) }
        }
        guard bytes <= ObjectRecord.maximumMetadata else {
            throw S3Error(.metadataTooLarge, "user metadata has \(bytes) bytes; allowed are \(ObjectRecord.maximumMetadata)")
        }
        return record
    }

    /// `aws-chunked` describes the transfer, not the object.
    private static func contentEncoding(_ value: String) -> String? {
        let kept = value.split(separator: ",").map { $0.drop { $0 == " " } }.filter { $0 != "aws-chunked" && !$0.isEmpty }
        return kept.isEmpty ? nil : kept.joined(separator: ",")
    }

    private static func refuse(_ name: String, _ value: String) throws(S3Error) {
        switch name {
        case "x-amz-acl":
            guard ["private", "bucket-owner-full-control", "bucket-owner-read"].contains(value) else {
                throw S3Error(.accessControlListNotSupported, "ACLs are not served: everything is private")
            }
        case "x-amz-storage-class":
            guard value == "STANDARD" else { throw S3Error(.invalidStorageClass, "the one storage class is STANDARD") }
        case _ where name.hasPrefix("x-amz-grant-"):
            throw S3Error(.accessControlListNotSupported, "ACLs are not served: everything is private")
        case _
        where name.hasPrefix("x-amz-server-side-encryption") || name.hasPrefix("x-amz-object-lock") || name == "x-amz-write-offset-bytes"
            || name == "x-amz-website-redirect-location":
            throw S3Error(.notImplemented, "the header \(name) is not served here")
        default: break
        }
    }

    // MARK: - Removing

    func deleteObject(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: true)
        try tree.remove(key, if: Preconditions(request.head))
        return Answer(204)
    }

    func deleteObjects(_ request: S3Request) throws -> Answer {
        let tree = try tree(request.bucket())
        let document = try request.document()
        let objects = document.all("Object")
        guard document.name == "Delete", (1...1_000).contains(objects.count) else {
            throw S3Error(.malformedXML, "expected <Delete> with 1 to 1000 of <Object>")
        }
        let isQuiet = document["Quiet"]?.text == "true"
        var failures: [(key: String, error: S3Error)] = []
        var removed: [String] = []
        for object in objects {
            let key = object["Key"]?.text ?? ""
            do {
                try request.check(key: Array(key.utf8), writes: true)
                var conditions = Preconditions(request.head)
                (conditions.ifMatch, conditions.ifNoneMatch) = (object["ETag"]?.text, nil)
                try tree.remove(ObjectKey(Array(key.utf8)), if: conditions)
                removed.append(key)
            } catch { failures.append((key, mapped(error))) }
        }
        return .xml("DeleteResult") { xml in
            if !isQuiet { for key in removed { xml.element("Deleted") { xml in xml.text("Key", key) } } }
            for (key, error) in failures {
                xml.element("Error") { xml in
                    xml.text("Key", key)
                    xml.text("Code", error.code.rawValue)
                    xml.text("Message", error.message)
                }
            }
        }
    }

    // MARK: - Tags

    func getTagging(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: false)
        guard let object = try tree.object(key) else { throw S3Error(.noSuchKey, "there is no object '\(key.text)'") }
        return .xml(object.record.tags.document)
    }

    func putTagging(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: true)
        let tags = try Tags(request.document(limit: 64 << 10))
        return try setTags(tags, tree, key, status: 200)
    }

    func deleteTagging(_ request: S3Request) throws -> Answer {
        let (tree, key) = try request.object(writes: true)
        return try setTags(Tags(), tree, key, status: 204)
    }

    private func setTags(_ tags: Tags, _ tree: VolumeTree, _ key: ObjectKey, status: Int) throws -> Answer {
        guard try tree.change(key, { $0.tags = tags }) else { throw S3Error(.noSuchKey, "there is no object '\(key.text)'") }
        return Answer(status)
    }
}
