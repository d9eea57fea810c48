import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import Resource

/// Objects of a store: listed, read, written, removed.
extension S3Client {
    package func list(_ bucket: String, prefix: String, delimiter: String = "") async throws -> Listing {
        var (listing, token): (Listing, String?) = (Listing(), nil)
        repeat {
            var query = [("list-type", "2"), ("prefix", prefix), ("encoding-type", "url")]
            if !delimiter.isEmpty { query.append(("delimiter", delimiter)) }
            if let token { query.append(("continuation-token", token)) }
            let page = try await document(send(.GET, bucket, query: query))
            listing.items += try page.all("Contents").map(Self.item)
            listing.prefixes += page.all("CommonPrefixes").compactMap { $0["Prefix"].map { Self.decode($0.text) } }
            token = page["IsTruncated"]?.text == "true" ? page["NextContinuationToken"]?.text : nil
        } while token != nil
        return listing
    }

    private static func decode(_ text: String) -> String {
        // As in forms, a plus is a space: Amazon and others write it so in listings.
        let spaced = text.utf8.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: " ") : $0 }
        return PercentEncoding.decode(spaced).map { String(decoding: $0, as: UTF8.self) } ?? text
    }

    /// What an object's size can be: a store says what it likes, and nobody's sums may overflow by it.
    private static let sizes: ClosedRange<Int64> = 0...(1 << 50)

    private static func item(_ element: XMLReader.Element) throws -> Item {
        guard let key = element["Key"]?.text, let size = element["Size"].flatMap({ Int64($0.text) }), sizes.contains(size) else {
            throw S3Failure(status: 200, code: "MalformedXML", message: "the store's listing is not one")
        }
        let digits = (element["LastModified"]?.text ?? "").filter { $0 != "-" && $0 != ":" }.prefix(15)
        return Item(
            key: decode(key), size: size, etag: (element["ETag"]?.text ?? "").filter { $0 != "\"" },
            modified: Signature.seconds(digits + "Z") ?? 0)
    }

    /// The object as it is, or nil.
    package func head(_ bucket: String, _ key: String) async throws -> Item? { try await details(bucket, key)?.item }

    /// What a store says of one object.
    package struct Details: Sendable {
        package var item: Item
        /// Without `x-amz-meta-`.
        package var metadata: [String: String]
        /// Whether its ETag is the MD5 of its bytes: of one part, and not encrypted with keys of its own.
        package var hasPlainETag: Bool
    }

    package func details(_ bucket: String, _ key: String) async throws -> Details? {
        do {
            let response = try await send(.HEAD, bucket, key)
            let headers = response.headers
            let item = Item(
                key: key,
                size: headers.first(name: "content-length").flatMap(Int64.init).flatMap { Self.sizes.contains($0) ? $0 : nil } ?? 0,
                etag: (headers.first(name: "etag") ?? "").filter { $0 != "\"" },
                modified: headers.first(name: "last-modified").flatMap(HTTPDate.parse) ?? 0)
            let metadata = headers.filter { $0.name.lowercased().hasPrefix("x-amz-meta-") }
            let isPlain =
                item.etag.utf8.count == 32 && item.etag.allSatisfy(\.isHexDigit)
                && !(headers.first(name: "x-amz-server-side-encryption")?.contains("kms") ?? false)
                && headers.first(name: "x-amz-server-side-encryption-customer-algorithm") == nil
            return Details(
                item: item,
                metadata: Dictionary(metadata.map { (String($0.name.lowercased().dropFirst(11)), $0.value) }, uniquingKeysWith: { $1 }),
                hasPlainETag: isPlain)
        } catch let failure as S3Failure where failure.status == 404 { return nil }
    }

    /// A checksum goes with every body: what arrives is what was read. Returns the ETag.
    @discardableResult
    package func put(_ bucket: String, _ key: String, _ body: ByteBuffer, headers: [(String, String)] = []) async throws -> String {
        let response = try await send(.PUT, bucket, key, headers: headers + [checksum(body)], body: body)
        return try await Self.etag(response)
    }

    /// The ETag of an answer to PUT. Some stores answer 200 and put the failure into the body.
    static func etag(_ response: HTTPClientResponse) async throws -> String {
        let bytes = Array(buffer: try await response.body.collect(upTo: 1 << 20))
        if !bytes.isEmpty, let root = try? XMLReader.parse(bytes), root.name == "Error" {
            throw S3Failure(status: 200, code: root["Code"]?.text ?? "Error", message: root["Message"]?.text ?? "")
        }
        return (response.headers.first(name: "etag") ?? "").filter { $0 != "\"" }
    }

    func checksum(_ body: ByteBuffer) -> (String, String) {
        if integrity == .md5 { return ("content-md5", Base64.encode(body.withUnsafeReadableBytes { Array(Digest.md5Bytes($0)) })) }
        var checksum = Checksum(.crc32c)
        body.withUnsafeReadableBytes { checksum.update($0) }
        return (ChecksumAlgorithm.crc32c.header, Base64.encode(checksum.value))
    }

    /// Reads an object, giving its bytes piece by piece.
    package func read(_ bucket: String, _ key: String, size: Int64, etag: String, _ take: (ByteBuffer) async throws -> Void) async throws {
        for try await piece in ObjectRead(self, bucket: bucket, key: key, size: size, etag: etag) { try await take(piece) }
    }

    package func copy(_ bucket: String, _ key: String, from source: String, _ sourceKey: String) async throws {
        let name = "\(Self.encode(source))/\(Self.encode(sourceKey, keepingSlash: true))"
        _ = try await document(send(.PUT, bucket, key, headers: [("x-amz-copy-source", name)]))
    }

    package func delete(_ bucket: String, _ key: String) async throws { _ = try await send(.DELETE, bucket, key) }
}
