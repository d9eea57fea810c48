import ArgumentParser
import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import Resource

/// How commands find the server.
struct ClientOptions: ParsableArguments {
    @Option(help: "Address of the server (default ROOST_URL, then http://127.0.0.1:8080).") var url: String?
    @Option(help: "API key (default ROOST_API_KEY, then ROOST_ADMIN_KEY).") var key: String?
    @Flag(help: "Print JSON instead of a table.") var json = false

    var client: ServerClient {
        var base = url ?? Environment["ROOST_URL"] ?? "http://127.0.0.1:8080"
        while base.hasSuffix("/") { base.removeLast() }
        return ServerClient(base: base, key: key ?? Environment["ROOST_API_KEY"] ?? Environment["ROOST_ADMIN_KEY"] ?? "")
    }
}

/// The HTTP client of the commands. A refusal becomes a message on stderr and exit code 1.
struct ServerClient: Sendable {
    let base: String
    let key: String

    func request(_ method: HTTPMethod, _ path: String) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: base + path)
        request.method = method
        request.headers.add(name: "authorization", value: "Bearer \(key)")
        return request
    }

    /// The JSON of the answer, or null where there is none.
    func call(_ method: HTTPMethod, _ path: String, body: JSON? = nil) async throws -> JSON {
        var request = request(method, path)
        if let body {
            request.headers.add(name: "content-type", value: "application/json")
            request.body = .bytes(body.bytes)
        }
        return try await send(request)
    }

    func send(_ request: HTTPClientRequest) async throws -> JSON {
        let response = try await open(request)
        let bytes = Array(buffer: try await response.body.collect(upTo: 256 << 20))
        return bytes.isEmpty ? .null : try JSONReader.parse(bytes)
    }

    /// The answer with its body still to be read; refusals are thrown.
    func open(_ request: HTTPClientRequest) async throws -> HTTPClientResponse {
        let response: HTTPClientResponse
        do { response = try await HTTPClient.shared.execute(request, timeout: .hours(24)) } catch {
            Terminal.error("cannot reach \(base): \(error); is `roost serve` running there?")
            throw ExitCode(2)
        }
        guard (200..<300).contains(Int(response.status.code)) else {
            let bytes = Array(buffer: try await response.body.collect(upTo: 1 << 20))
            let message = (try? JSONReader.parse(bytes))?["error"]?.string ?? String(decoding: bytes.prefix(500), as: UTF8.self)
            let hint = response.status.code == 401 ? " (set ROOST_API_KEY or --key)" : ""
            Terminal.error("\(message)\(hint)")
            throw ExitCode(1)
        }
        return response
    }

    /// `text` for one segment of a path or one value of a query.
    static func encode(_ text: String) -> String {
        text.utf8.map { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                String(UnicodeScalar(byte))
            default: "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }.joined()
    }
}
