import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import Resource

/// What a store refused, in its own words.
package struct S3Failure: Error, Sendable, CustomStringConvertible {
    package var status: Int
    package var code: String
    package var message: String

    package init(status: Int, code: String, message: String) {
        (self.status, self.code, self.message) = (status, code, message)
    }

    package var description: String { message.isEmpty ? "\(code) (\(status))" : "\(code): \(message)" }
}

/// A client of S3-compatible stores, path-style, with the signer that the server checks with.
package struct S3Client: Sendable {
    /// `http://host:port`, without a slash at the end.
    package var endpoint: String
    package var region: String
    package var accessKey: String
    package var secret: String

    /// Tries of one request, the first among them.
    package var tries = 4
    package var timeout: TimeAmount = .hours(24)

    package init(endpoint: String, region: String, accessKey: String, secret: String) {
        (self.endpoint, self.region, self.accessKey, self.secret) = (endpoint, region, accessKey, secret)
    }

    /// One object of a listing.
    package struct Item: Sendable, Equatable {
        package var key: String
        package var size: Int64
        package var etag: String
        /// Seconds since 1970.
        package var modified: Int64
    }

    /// One page, or all of it.
    package struct Listing: Sendable {
        package var items: [Item] = []
        package var prefixes: [String] = []

        package init() {}
    }

    // MARK: - Requests

    /// Sends a request, again where the store or the way to it failed; refusals are thrown as `S3Failure`.
    package func send(
        _ method: HTTPMethod, _ bucket: String, _ key: String = "", query: [(String, String)] = [], headers: [(String, String)] = [],
        body: ByteBuffer? = nil
    ) async throws -> HTTPClientResponse {
        var attempt = 1
        while true {
            do {
                let response = try await once(method, bucket, key, query, headers, body)
                if response.status.code < 300 { return response }
                let failure = await Self.failure(response)
                guard failure.status >= 500, failure.status != 501, failure.status != 507, attempt < tries else { throw failure }
            } catch let error as S3Failure { throw error } catch {
                guard attempt < tries, !Task.isCancelled else { throw error }
            }
            try await Task.sleep(for: .milliseconds(100 << attempt))
            attempt += 1
        }
    }

    private func once(
        _ method: HTTPMethod, _ bucket: String, _ key: String, _ query: [(String, String)], _ headers: [(String, String)],
        _ body: ByteBuffer?
    ) async throws -> HTTPClientResponse {
        var target = "/" + Self.encode(bucket)
        if !key.isEmpty { target += "/" + Self.encode(key, keepingSlash: true) }
        if !query.isEmpty { target += "?" + query.map { "\(Self.encode($0.0))=\(Self.encode($0.1))" }.joined(separator: "&") }
        let host = String(endpoint.drop { $0 != "/" }.dropFirst(2))
        let signed = try Signature.headers(
            method.rawValue, target: target, host: host, headers: headers.map { (name: $0.0, value: $0.1) },
            payloadHash: body == nil ? Signature.emptyHash : "UNSIGNED-PAYLOAD", accessKey: accessKey, secret: secret, region: region,
            at: Milliseconds(Date().timeIntervalSince1970 * 1_000))
        var request = HTTPClientRequest(url: endpoint + target)
        request.method = method
        for (name, value) in signed where name != "host" { request.headers.add(name: name, value: value) }
        if let body { request.body = .bytes(body) }
        return try await HTTPClient.shared.execute(request, timeout: timeout)
    }

    private static func failure(_ response: HTTPClientResponse) async -> S3Failure {
        let bytes = (try? await response.body.collect(upTo: 1 << 20)).map { Array(buffer: $0) } ?? []
        let root = try? XMLReader.parse(bytes)
        let status = Int(response.status.code)
        return S3Failure(status: status, code: root?["Code"]?.text ?? response.status.reasonPhrase, message: root?["Message"]?.text ?? "")
    }

    private static func encode(_ text: String, keepingSlash: Bool = false) -> String {
        String(decoding: PercentEncoding.encode(text.utf8, keepingSlash: keepingSlash), as: UTF8.self)
    }

    private func document(_ response: HTTPClientResponse) async throws -> XMLReader.Element {
        let root = try XMLReader.parse(Array(buffer: try await response.body.collect(upTo: XMLReader.maximumBytes)))
        // A long completion answers 200 first and may still fail.
        guard root.name != "Error" else {
            throw S3Failure(status: 200, code: root["Code"]?.text ?? "Error", message: root["Message"]?.text ?? "")
        }
        return root
    }

    // MARK: - Objects

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
        PercentEncoding.decode(text.utf8).map { String(decoding: $0, as: UTF8.self) } ?? text
    }

    private static func item(_ element: XMLReader.Element) throws -> Item {
        guard let key = element["Key"]?.text, let size = element["Size"].flatMap({ Int64($0.text) }) else {
            throw S3Failure(status: 200, code: "MalformedXML", message: "the store's listing is not one")
        }
        let digits = (element["LastModified"]?.text ?? "").filter { $0 != "-" && $0 != ":" }.prefix(15)
        return Item(
            key: decode(key), size: size, etag: (element["ETag"]?.text ?? "").filter { $0 != "\"" },
            modified: Signature.seconds(digits + "Z") ?? 0)
    }

    /// The object as it is, or nil.
    package func head(_ bucket: String, _ key: String) async throws -> Item? {
        do {
            let response = try await send(.HEAD, bucket, key)
            return Item(
                key: key, size: response.headers.first(name: "content-length").flatMap(Int64.init) ?? 0,
                etag: (response.headers.first(name: "etag") ?? "").filter { $0 != "\"" },
                modified: response.headers.first(name: "last-modified").flatMap(HTTPDate.parse) ?? 0)
        } catch let failure as S3Failure where failure.status == 404 { return nil }
    }

    /// A checksum goes with every body: what arrives is what was read.
    package func put(_ bucket: String, _ key: String, _ body: ByteBuffer) async throws {
        _ = try await send(.PUT, bucket, key, headers: [Self.checksum(body)], body: body)
    }

    private static func checksum(_ body: ByteBuffer) -> (String, String) {
        var checksum = Checksum(.crc32c)
        body.withUnsafeReadableBytes { checksum.update($0) }
        return (ChecksumAlgorithm.crc32c.header, Base64.encode(checksum.value))
    }

    package func copy(_ bucket: String, _ key: String, from source: String, _ sourceKey: String) async throws {
        let name = "\(Self.encode(source))/\(Self.encode(sourceKey, keepingSlash: true))"
        _ = try await document(send(.PUT, bucket, key, headers: [("x-amz-copy-source", name)]))
    }

    package func delete(_ bucket: String, _ key: String) async throws { _ = try await send(.DELETE, bucket, key) }

    // MARK: - Parts

    /// The uploads of one key that wait for their completion, newest last.
    package func uploads(_ bucket: String, _ key: String) async throws -> [String] {
        let root = try await document(send(.GET, bucket, query: [("uploads", ""), ("prefix", key)]))
        return root.all("Upload").filter { $0["Key"]?.text == key }.compactMap { $0["UploadId"]?.text }
    }

    package func createUpload(_ bucket: String, _ key: String) async throws -> String {
        let root = try await document(send(.POST, bucket, key, query: [("uploads", "")]))
        guard let id = root["UploadId"]?.text else { throw S3Failure(status: 200, code: "MalformedXML", message: "no UploadId") }
        return id
    }

    /// Number, size and ETag of the parts that are there.
    package func parts(_ bucket: String, _ key: String, upload: String) async throws -> [Int: (size: Int64, etag: String)] {
        var (parts, marker): ([Int: (size: Int64, etag: String)], String?) = ([:], "0")
        while let at = marker {
            let root = try await document(send(.GET, bucket, key, query: [("uploadId", upload), ("part-number-marker", at)]))
            for part in root.all("Part") {
                guard let number = part["PartNumber"].flatMap({ Int($0.text) }), let size = part["Size"].flatMap({ Int64($0.text) }) else {
                    continue
                }
                parts[number] = (size, (part["ETag"]?.text ?? "").filter { $0 != "\"" })
            }
            marker = root["IsTruncated"]?.text == "true" ? root["NextPartNumberMarker"]?.text : nil
        }
        return parts
    }

    /// The part's ETag.
    package func putPart(_ bucket: String, _ key: String, upload: String, number: Int, _ body: ByteBuffer) async throws -> String {
        let query = [("uploadId", upload), ("partNumber", String(number))]
        let response = try await send(.PUT, bucket, key, query: query, headers: [Self.checksum(body)], body: body)
        return (response.headers.first(name: "etag") ?? "").filter { $0 != "\"" }
    }

    package func completeUpload(_ bucket: String, _ key: String, upload: String, etags: [String]) async throws {
        var xml = XMLWriter()
        xml.element("CompleteMultipartUpload") { xml in
            for (index, etag) in etags.enumerated() {
                xml.element("Part") { xml in
                    xml.text("PartNumber", String(index + 1))
                    xml.text("ETag", "\"\(etag)\"")
                }
            }
        }
        _ = try await document(send(.POST, bucket, key, query: [("uploadId", upload)], body: ByteBuffer(bytes: xml.bytes)))
    }
}
