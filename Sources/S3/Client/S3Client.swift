import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import Resource

/// A client of S3-compatible stores, with the signer that the server checks with.
package struct S3Client: Sendable {
    /// Where the bucket's name goes: providers differ in what they accept.
    package enum Addressing: String, Sendable {
        /// `https://HOST/BUCKET/KEY`
        case path
        /// `https://BUCKET.HOST/KEY`
        case virtual
    }

    /// `http://host:port`, without a slash at the end.
    package var endpoint: String
    package var region: String
    package var accessKey: String
    package var secret: String
    package var addressing = Addressing.path
    /// What is sent with every body, so that the store refuses what arrives as something else.
    package enum Integrity: Sendable {
        /// `x-amz-checksum-crc32c`: cheap, but newer than some stores.
        case crc32c
        /// `Content-MD5`: what every store knows.
        case md5
    }

    package var integrity = Integrity.crc32c
    /// The connections it uses.
    package var http = S3Connections.standard

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
    ///
    /// A store that asks to slow down is given more time and more tries than one that fails. Redirects are followed with
    /// a signature of their own, as the other host checks another one.
    package func send(
        _ method: HTTPMethod, _ bucket: String, _ key: String = "", query: [(String, String)] = [], headers: [(String, String)] = [],
        body: ByteBuffer? = nil
    ) async throws -> HTTPClientResponse {
        var (client, attempt, redirects) = (self, 1, 0)
        while true {
            let target = client.target(bucket, key, query)
            do {
                let response = try await client.once(method, target, headers, body)
                if response.status.code < 300 { return response }
                if redirects < 3, let moved = try client.moved(by: response, target, bucket) {
                    (client, redirects) = (moved, redirects + 1)
                    continue
                }
                let failure = await Self.failure(response)
                guard failure.isPassing, attempt < (failure.wantsPatience ? max(tries, min(tries * 2, 8)) : tries) else { throw failure }
            } catch let error as S3Failure { throw error } catch {
                guard attempt < tries, !Task.isCancelled else { throw error }
            }
            // Half of the pause is left to chance, so that many who were refused do not come back at once.
            let pause = min(8_000, 100 << attempt)
            try await Task.sleep(for: .milliseconds(pause / 2 + Int.random(in: 0...pause / 2)))
            attempt += 1
        }
    }

    /// Host and path of a request.
    struct Target {
        var host: String
        var path: String
        var url: String
    }

    func target(_ bucket: String, _ key: String, _ query: [(String, String)]) -> Target {
        let scheme = endpoint.prefix { $0 != ":" }
        var host = String(endpoint.drop { $0 != "/" }.dropFirst(2))
        var path = "/"
        if addressing == .virtual, !bucket.isEmpty { host = bucket + "." + host } else { path += Self.encode(bucket) }
        if !key.isEmpty { path += (path.hasSuffix("/") ? "" : "/") + Self.encode(key, keepingSlash: true) }
        if !query.isEmpty { path += "?" + query.map { "\(Self.encode($0.0))=\(Self.encode($0.1))" }.joined(separator: "&") }
        return Target(host: host, path: path, url: "\(scheme)://\(host)\(path)")
    }

    private func once(
        _ method: HTTPMethod, _ target: Target, _ headers: [(String, String)], _ body: ByteBuffer?
    ) async throws -> HTTPClientResponse {
        let signed = try Signature.headers(
            method.rawValue, target: target.path, host: target.host, headers: headers.map { (name: $0.0, value: $0.1) },
            payloadHash: body == nil ? Signature.emptyHash : "UNSIGNED-PAYLOAD", accessKey: accessKey, secret: secret, region: region,
            at: Milliseconds(Date().timeIntervalSince1970 * 1_000))
        var request = HTTPClientRequest(url: target.url)
        request.method = method
        for (name, value) in signed where name != "host" { request.headers.add(name: name, value: value) }
        if let body { request.body = .bytes(body) }
        return try await http.client.execute(request, timeout: timeout)
    }

    /// This client turned to where a redirect points; nil where it points nowhere new.
    private func moved(by response: HTTPClientResponse, _ target: Target, _ bucket: String) throws -> S3Client? {
        guard [301, 302, 307, 308].contains(response.status.code) else { return nil }
        var client = self
        if let region = response.headers.first(name: "x-amz-bucket-region") { client.region = region }
        if let location = response.headers.first(name: "location"), let url = URL(string: location), let host = url.host,
            let scheme = url.scheme, ["http", "https"].contains(scheme)
        {
            // A store may not lead this machine to where only machines are trusted.
            guard !NetworkAddress.isLinkLocal(host) || NetworkAddress.isLinkLocal(target.host) else {
                throw S3Failure(
                    status: Int(response.status.code), code: "Redirect", message: "the store points to \(host), a link-local address")
            }
            let isVirtual = host.hasPrefix(bucket + ".") && !bucket.isEmpty
            client.addressing = isVirtual ? .virtual : .path
            client.endpoint = "\(scheme)://\(isVirtual ? String(host.dropFirst(bucket.count + 1)) : host)\(url.port.map { ":\($0)" } ?? "")"
        }
        let isSame = client.endpoint == endpoint && client.region == region && client.addressing == addressing
        return isSame ? nil : client
    }

    private static func failure(_ response: HTTPClientResponse) async -> S3Failure {
        let bytes = (try? await response.body.collect(upTo: 1 << 20)).map { Array(buffer: $0) } ?? []
        let root = try? XMLReader.parse(bytes)
        let status = Int(response.status.code)
        return S3Failure(status: status, code: root?["Code"]?.text ?? response.status.reasonPhrase, message: root?["Message"]?.text ?? "")
    }

    /// Percent-encodes for a path or a query.
    package static func encode(_ text: String, keepingSlash: Bool = false) -> String {
        String(decoding: PercentEncoding.encode(text.utf8, keepingSlash: keepingSlash), as: UTF8.self)
    }

    /// A URL that lets whoever has it do one thing with one object for a while. At most 7 days.
    package func presign(_ method: HTTPMethod, _ bucket: String, _ key: String, seconds: Int64, at now: Milliseconds) throws -> String {
        let target = target(bucket, key, [])
        let query = try Signature.query(
            method.rawValue, target: target.path, host: target.host, accessKey: accessKey, secret: secret, region: region,
            seconds: seconds, at: now)
        return "\(target.url)?\(query)"
    }

    func document(_ response: HTTPClientResponse) async throws -> XMLReader.Element {
        let root = try XMLReader.parse(Array(buffer: try await response.body.collect(upTo: XMLReader.maximumBytes)))
        // A long completion answers 200 first and may still fail.
        guard root.name != "Error" else {
            throw S3Failure(status: 200, code: root["Code"]?.text ?? "Error", message: root["Message"]?.text ?? "")
        }
        return root
    }
}
