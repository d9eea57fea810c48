import AsyncHTTPClient
import Foundation
import NIOCore
import Resource

/// Reads what a URL of a client's points to, without being led astray by it.
struct RemoteFile: Sendable {
    let guardian: NetworkGuard

    private static let redirects = 5

    /// The URL, if it can be fetched at all.
    static func parse(_ text: String) throws(RoostError) -> (url: URL, host: String, port: Int) {
        guard text.utf8.count <= 8_192, text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), let url = URL(string: text),
            let scheme = url.scheme?.lowercased(), ["http", "https"].contains(scheme), let host = url.host, !host.isEmpty
        else { throw RoostError(.invalid, "field '$ref.url': must be an http or https URL of at most 8192 bytes") }
        return (url, host, url.port ?? (scheme == "https" ? 443 : 80))
    }

    /// `headers` go to the first host alone: it may redirect to one that must not have them.
    func read(_ text: String, headers: [(String, String)] = [], _ take: (ByteBuffer) async throws -> Void) async throws {
        var next = text
        let first = try Self.parse(text).host
        for _ in 0...Self.redirects {
            let (url, host, port) = try Self.parse(next)
            let address = try await guardian.addresses(of: host, port: port, field: "$ref.url")[0]
            var configuration = HTTPClient.Configuration()
            configuration.redirectConfiguration = .disallow
            configuration.timeout = .init(connect: .seconds(10), read: .seconds(60))
            if address != host { configuration.dnsOverride = [host: address] }
            let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
            do {
                let moved = try await read(next, base: url, host == first ? headers : [], client, take)
                try await client.shutdown()
                guard let moved else { return }
                next = moved
            } catch {
                try? await client.shutdown()
                throw error
            }
        }
        throw RoostError(.invalid, "the URL redirects more than \(Self.redirects) times")
    }

    /// Nil once all of it was read; else where it is.
    private func read(
        _ text: String, base: URL, _ headers: [(String, String)], _ client: HTTPClient, _ take: (ByteBuffer) async throws -> Void
    ) async throws -> String? {
        var request = HTTPClientRequest(url: text)
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        let response = try await client.execute(request, timeout: .hours(24))
        switch response.status.code {
        case 200..<300:
            for try await piece in response.body { try await take(piece) }
            return nil
        case 301, 302, 303, 307, 308:
            guard let location = response.headers.first(name: "location"), let url = URL(string: location, relativeTo: base) else {
                throw RoostError(.invalid, "the URL redirects to nowhere")
            }
            return url.absoluteString
        default: throw RoostError(.invalid, "the URL answers \(response.status.code) \(response.status.reasonPhrase)")
        }
    }
}
