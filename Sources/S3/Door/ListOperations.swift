import Resource

/// Listings. All state is in the marker that the client sends back.
extension S3Service {
    private static let maximumKeys = 1_000
    /// A page that took longer came from a disk rather than from memory.
    private static let coldMilliseconds: Int64 = 8

    private static let pagesAhead = 8

    /// Brings the next pages' inodes into memory while the client is busy with this one. One such reading at a time.
    private func readAhead(_ query: ListQuery, of tree: VolumeTree) {
        guard readsAhead.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged else { return }
        let isStarted = DetachedThread.start { [self] in
            var query = query
            for _ in 0..<Self.pagesAhead {
                guard let page = try? tree.list(query), page.isTruncated else { break }
                query.after = page.last
            }
            readsAhead.store(false, ordering: .releasing)
        }
        if !isStarted { readsAhead.store(false, ordering: .releasing) }
    }

    func listObjectsV2(_ request: S3Request) throws -> Answer {
        let listing = try Listing(request)
        let token = request.parameter("continuation-token")
        var after: ListQuery.Marker?
        if let token {
            after = try Self.marker(token)
        } else if let start = request.parameter("start-after"), !start.isEmpty {
            after = .key(Array(start.utf8))
        }
        let page = try listing.page(request, after)
        let showsOwner = request.parameter("fetch-owner") == "true"
        return .xml("ListBucketResult", capacity: 1_024 + page.count * 320) { xml in
            listing.begin(&xml, request)
            xml.text("KeyCount", String(page.count))
            if let token { xml.text("ContinuationToken", token) }
            if let start = request.parameter("start-after") { xml.text("StartAfter", listing.shown(Array(start.utf8))) }
            if page.isTruncated, let last = page.last { xml.text("NextContinuationToken", Self.token(last)) }
            listing.write(page, &xml, owner: showsOwner ? request.caller : nil)
        }
    }

    func listObjects(_ request: S3Request) throws -> Answer {
        let listing = try Listing(request)
        let marker = request.parameter("marker") ?? ""
        // What NextMarker named: a common prefix stands for all of it.
        let isPrefix = !listing.query.delimiter.isEmpty && marker.hasSuffix(String(decoding: listing.query.delimiter, as: UTF8.self))
        let after: ListQuery.Marker = isPrefix ? .prefix(Array(marker.utf8)) : .key(Array(marker.utf8))
        let page = try listing.page(request, marker.isEmpty ? nil : after)
        return .xml("ListBucketResult", capacity: 1_024 + page.count * 320) { xml in
            listing.begin(&xml, request)
            xml.text("Marker", listing.shown(Array(marker.utf8)))
            if page.isTruncated, let last = page.last { xml.text("NextMarker", listing.shown(last.bytes)) }
            listing.write(page, &xml, owner: request.caller)
        }
    }

    /// Opaque to clients: a letter for the kind and the bytes, in base64.
    private static func token(_ marker: ListQuery.Marker) -> String {
        let kind = if case .key = marker { UInt8(ascii: "k") } else { UInt8(ascii: "p") }
        return Base64.encode([kind] + marker.bytes)
    }

    private static func marker(_ token: String) throws(S3Error) -> ListQuery.Marker {
        guard let bytes = Base64.decode(token), let kind = bytes.first, kind == UInt8(ascii: "k") || kind == UInt8(ascii: "p") else {
            throw S3Error(.invalidArgument, "the continuation token is not one of ours")
        }
        let rest = Array(bytes.dropFirst())
        return kind == UInt8(ascii: "k") ? .key(rest) : .prefix(rest)
    }

    /// What both versions of the operation share.
    private struct Listing {
        var query = ListQuery()
        let encodes: Bool

        init(_ request: S3Request) throws(S3Error) {
            query.prefix = Array((request.parameter("prefix") ?? "").utf8)
            query.delimiter = Array((request.parameter("delimiter") ?? "").utf8)
            query.limit = try S3Service.limit(request, "max-keys", maximumKeys)
            encodes = try S3Service.encodes(request)
            guard request.caller.credential.allows(key: query.prefix) else {
                throw S3Error(.accessDenied, "the access key is limited to other prefixes: name one of them")
            }
        }

        func page(_ request: S3Request, _ after: ListQuery.Marker?) throws -> ListPage {
            var query = query
            query.after = after
            let (service, tree) = (request.service, try request.service.tree(request.bucket()))
            let begin = service.nowMilliseconds
            let page = try tree.list(query)
            if page.isTruncated, let last = page.last, service.nowMilliseconds - begin > S3Service.coldMilliseconds {
                query.after = last
                service.readAhead(query, of: tree)
            }
            return page
        }

        func shown(_ bytes: [UInt8]) -> String { S3Service.shown(bytes, encoded: encodes) }

        func begin(_ xml: inout XMLWriter, _ request: S3Request) {
            xml.text("Name", request.bucketName)
            xml.text("Prefix", shown(query.prefix))
            if !query.delimiter.isEmpty { xml.text("Delimiter", shown(query.delimiter)) }
            xml.text("MaxKeys", String(query.limit))
            if encodes { xml.text("EncodingType", "url") }
        }

        func write(_ page: ListPage, _ xml: inout XMLWriter, owner: Caller?) {
            xml.text("IsTruncated", String(page.isTruncated))
            for object in page.objects {
                xml.element("Contents") { xml in
                    xml.text("Key", shown(object.key))
                    xml.text("LastModified", Timestamp.text(object.state.modifiedNs / 1_000_000))
                    xml.text("ETag", "\"\(object.state.etag)\"")
                    xml.text("Size", String(object.state.size))
                    if let owner { S3Service.owner(&xml, owner) }
                    xml.text("StorageClass", "STANDARD")
                }
            }
            for prefix in page.prefixes {
                xml.element("CommonPrefixes") { xml in xml.text("Prefix", shown(prefix)) }
            }
        }
    }

    static func limit(_ request: S3Request, _ name: String, _ maximum: Int) throws(S3Error) -> Int {
        guard let text = request.parameter(name), !text.isEmpty else { return maximum }
        guard let number = HTTPHead.number(text) else {
            throw S3Error(.invalidArgument, "\(name) must be a number, got '\(text.prefix(40))'")
        }
        return min(number, maximum)
    }

    static func encodes(_ request: S3Request) throws(S3Error) -> Bool {
        switch request.parameter("encoding-type") {
        case nil, "": return false
        case "url": return true
        case .some(let other): throw S3Error(.invalidArgument, "encoding-type must be url, got '\(other.prefix(40))'")
        }
    }

    static func shown(_ bytes: [UInt8], encoded: Bool) -> String {
        String(decoding: encoded ? PercentEncoding.encode(bytes, keepingSlash: true) : bytes, as: UTF8.self)
    }

    // MARK: - Uploads

    func listUploads(_ request: S3Request) throws -> Answer {
        let prefix = request.parameter("prefix") ?? ""
        guard request.caller.credential.allows(key: prefix.utf8) else {
            throw S3Error(.accessDenied, "the access key is limited to other prefixes: name one of them")
        }
        let delimiter = request.parameter("delimiter") ?? ""
        let limit = try Self.limit(request, "max-uploads", Self.maximumKeys)
        let encodes = try Self.encodes(request)
        let (keyMarker, idMarker) = (request.parameter("key-marker") ?? "", request.parameter("upload-id-marker") ?? "")
        let all = try tree(request.bucket()).uploadList().filter { upload in
            guard upload.key.text.utf8.starts(with: prefix.utf8) else { return false }
            return keyMarker.isEmpty || Self.isAfter(upload, keyMarker, idMarker)
        }
        let page = UploadPage(all, prefix: prefix, delimiter: delimiter, limit: limit)
        func shown(_ text: String) -> String { Self.shown(Array(text.utf8), encoded: encodes) }
        return .xml("ListMultipartUploadsResult") { xml in
            xml.text("Bucket", request.bucketName)
            xml.text("KeyMarker", shown(keyMarker))
            xml.text("UploadIdMarker", idMarker)
            if page.isTruncated, let last = page.last {
                xml.text("NextKeyMarker", shown(last.key.text))
                xml.text("NextUploadIdMarker", last.id)
            }
            xml.text("Prefix", shown(prefix))
            if !delimiter.isEmpty { xml.text("Delimiter", shown(delimiter)) }
            if encodes { xml.text("EncodingType", "url") }
            xml.text("MaxUploads", String(limit))
            xml.text("IsTruncated", String(page.isTruncated))
            for upload in page.uploads { Self.write(upload, key: shown(upload.key.text), &xml, request.caller) }
            for prefix in page.prefixes { xml.element("CommonPrefixes") { xml in xml.text("Prefix", shown(prefix)) } }
        }
    }

    private static func write(_ upload: Upload, key: String, _ xml: inout XMLWriter, _ caller: Caller) {
        xml.element("Upload") { xml in
            xml.text("Key", key)
            xml.text("UploadId", upload.id)
            owner(&xml, caller, element: "Initiator")
            owner(&xml, caller)
            xml.text("StorageClass", "STANDARD")
            xml.text("Initiated", Timestamp.text(upload.initiated))
        }
    }

    private static func isAfter(_ upload: Upload, _ key: String, _ id: String) -> Bool {
        if upload.key.text == key { return !id.isEmpty && upload.id > id }
        return key.utf8.lexicographicallyPrecedes(upload.key.text.utf8)
    }

    private struct UploadPage {
        var uploads: [Upload] = []
        var prefixes: [String] = []
        var isTruncated = false
        var last: Upload?

        init(_ all: [Upload], prefix: String, delimiter: String, limit: Int) {
            // Among uploads of one key the marker goes by id.
            let ordered = all.sorted { left, right in
                left.key == right.key ? left.id < right.id : left.key.text.utf8.lexicographicallyPrecedes(right.key.text.utf8)
            }
            for upload in ordered {
                let rest = upload.key.text.dropFirst(prefix.count)
                let common = delimiter.isEmpty ? nil : rest.firstRange(of: delimiter).map { prefix + rest[..<$0.upperBound] }
                if let common, common == prefixes.last {
                    last = upload
                    continue
                }
                guard uploads.count + prefixes.count < limit else {
                    isTruncated = limit > 0
                    return
                }
                if let common { prefixes.append(common) } else { uploads.append(upload) }
                last = upload
            }
        }
    }
}
