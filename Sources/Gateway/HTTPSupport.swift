import ControlPlane
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import NIOHTTP1
import Resource

/// The border: the one place where our errors become HTTP.
struct ErrorMiddleware: RouterMiddleware {
    typealias Context = BasicRequestContext

    func handle(
        _ request: Request, context: Context, next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        do { return try await next(request, context) } catch let error as RoostError {
            if error.code == .internalFault { context.logger.error("request failed", metadata: ["error": "\(error)"]) }
            return .failure(error)
        } catch let error as any HTTPResponseError {
            let known = error.status == .notFound
            return .failure(
                status: error.status, known ? "there is no \(request.method) \(request.uri.path)" : "\(error.status.reasonPhrase)")
        } catch let error as HTTPParserError {
            return .failure(RoostError(.invalid, "malformed HTTP: \(error)"))
        } catch is CancellationError {
            return .failure(RoostError(.unavailable, "the server is stopping"))
        } catch {
            // Details are for the log: they may name paths of the host.
            context.logger.error("request failed", metadata: ["error": "\(error)"])
            return .failure(RoostError(.internalFault, "internal error; the server's log says more"))
        }
    }
}

extension RoostError {
    var status: HTTPResponse.Status {
        switch code {
        case .invalid: .badRequest
        case .unauthorized: .unauthorized
        case .forbidden: .forbidden
        case .notFound: .notFound
        case .conflict: .conflict
        case .tooLarge: .contentTooLarge
        case .busy: .tooManyRequests
        case .noSpace: .init(code: 507, reasonPhrase: "Insufficient Storage")
        case .unavailable: .serviceUnavailable
        case .internalFault: .internalServerError
        }
    }
}

extension Response {
    static func json(_ bytes: [UInt8], status: HTTPResponse.Status = .ok) -> Response {
        var headers = HTTPFields()
        headers[.contentType] = "application/json"
        return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }

    static func json(_ value: JSON, status: HTTPResponse.Status = .ok) -> Response { json(value.bytes, status: status) }

    static func failure(_ error: RoostError) -> Response { failure(status: error.status, error.message) }

    static func failure(status: HTTPResponse.Status, _ message: String) -> Response {
        json(["error": .string(message), "status": .int(status.code)], status: status)
    }

    static var noContent: Response { Response(status: .noContent) }
}

extension Request {
    /// The credential of the `Authorization` header, with or without `Bearer`.
    var credential: String? {
        guard let value = headers[.authorization] else { return nil }
        let secret = value.lowercased().hasPrefix("bearer ") ? value.dropFirst(7) : value[...]
        let trimmed = secret.drop { $0 == " " }
        return trimmed.isEmpty ? nil : String(trimmed)
    }

    /// The whole body. Over `limit` it is read to its end, so that the client hears the answer, and thrown away.
    func body(upTo limit: Int, wayOut: String) async throws -> [UInt8] {
        let refusal = RoostError(.tooLarge, "the request body is over the limit of \(limit) bytes; \(wayOut)")
        let announced = headers[.contentLength].flatMap(Int.init) ?? 0
        guard announced <= limit + Self.drainBytes else { throw refusal }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(max(0, min(announced, limit)))
        var total = 0
        for try await buffer in body {
            total += buffer.readableBytes
            guard total <= limit + Self.drainBytes else { throw refusal }
            if total <= limit { bytes += buffer.readableBytesView }
        }
        guard total <= limit else { throw refusal }
        return bytes
    }

    /// How much of a refused body is read before the connection is given up.
    private static var drainBytes: Int { 256 << 20 }

    /// A management request's body as JSON. An empty one is an empty object.
    func json() async throws -> JSON {
        let bytes = try await body(upTo: Limits.managementBodyBytes, wayOut: "send less")
        guard !bytes.isEmpty else { return .object([]) }
        do throws(JSONReader.Failure) { return try JSONReader.parse(bytes) } catch {
            throw RoostError(.invalid, error.description)
        }
    }

    /// A query parameter, nil where it is absent or empty.
    func text(_ name: String) -> String? {
        uri.queryParameters[Substring(name)].map(String.init).flatMap { $0.isEmpty ? nil : $0 }
    }

    /// A query parameter that must be `true` or `false`.
    func flag(_ name: String) throws(RoostError) -> Bool {
        switch uri.queryParameters[Substring(name)] {
        case nil, "false", "0", "": return false
        case "true", "1": return true
        case .some(let text): throw RoostError(.invalid, "query '\(name)': got '\(text.prefix(80))'; allowed: true, false")
        }
    }

    /// A query parameter that must be an integer in a range.
    func integer(_ name: String, _ range: ClosedRange<Int>, default standard: Int) throws(RoostError) -> Int {
        guard let text = uri.queryParameters[Substring(name)], !text.isEmpty else { return standard }
        guard let value = Int(text), range.contains(value) else {
            throw RoostError(
                .invalid, "query '\(name)': got '\(text.prefix(80))'; allowed: an integer from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }
}

extension BasicRequestContext {
    func parameter(_ name: String) throws(RoostError) -> String {
        guard let value = parameters.get(name) else { throw RoostError(.notFound, "the path lacks its \(name)") }
        return Self.decode(value)
    }

    /// Percent-decodes once. What is no valid encoding, or no UTF-8, stays as it came and will not be found.
    private static func decode(_ text: String) -> String {
        guard text.utf8.contains(UInt8(ascii: "%")) else { return text }
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            let digits = rest.prefix(2)
            guard digits.count == 2, let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16) else { return text }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self) ?? text
    }
}

/// Who may do what.
struct Authorizer: Sendable {
    let catalog: Catalog

    func key(of request: Request) throws(RoostError) -> APIKey {
        guard let secret = request.credential else { throw RoostError(.unauthorized, "no token provided") }
        guard let key = catalog.key(matching: secret) else { throw RoostError(.unauthorized, "invalid api key") }
        return key
    }

    @discardableResult
    func management(_ request: Request, write: Bool) throws(RoostError) -> APIKey {
        let key = try key(of: request)
        guard key.allowsManagement(write: write) else {
            throw RoostError(.forbidden, "API key \(key.id) (\(key.scope.rawValue)) may not do this")
        }
        return key
    }

    /// The endpoint of a job request, if the key may use it.
    func endpoint(_ id: String, _ request: Request, write: Bool) throws(RoostError) -> Endpoint {
        let key = try key(of: request)
        guard let endpoint = catalog.endpoint(id) else { throw RoostError(.notFound, "there is no endpoint \(id.prefix(80))") }
        guard key.allowsJobs(of: id, write: write) else {
            throw RoostError(
                .forbidden, "API key \(key.id) (\(key.scope.rawValue)) may not \(write ? "change" : "read") jobs of endpoint \(id)")
        }
        return endpoint
    }
}
