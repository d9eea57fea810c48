import Crypto
import Resource

/// AWS Signature Version 4 of one request: read, and checked against a secret.
///
/// Format: "Authenticating Requests (AWS Signature Version 4)" of Amazon's S3 API reference.
package struct Signature: Sendable, Equatable {
    /// How far clocks may differ, in seconds.
    package static let maximumSkew: Int64 = 15 * 60
    /// The longest life of a presigned URL, in seconds.
    package static let longestExpiry: Int64 = 7 * 86_400

    package var accessKey: String
    /// `yyyyMMdd`
    package var day: String
    package var region: String
    /// `yyyyMMdd'T'HHmmss'Z'`, the request's own time.
    package var timestamp: String
    package var signedHeaders: [String]
    package var hex: String
    /// Seconds, of a presigned URL.
    package var expires: Int64?

    package var scope: String { "\(day)/\(region)/s3/aws4_request" }

    /// Nil when the request is not signed at all.
    package init?(_ head: RequestHead) throws(S3Error) {
        if let header = head.header("authorization") {
            try self.init(header: header, head: head)
        } else if head.parameter("X-Amz-Algorithm") != nil || head.parameter("X-Amz-Signature") != nil {
            try self.init(queryOf: head)
        } else {
            return nil
        }
    }

    /// The signature of an upload form: fields instead of headers.
    package init(formCredential credential: String, timestamp: String, hex: String) throws(S3Error) {
        let malformed = S3Error(.accessDenied, "the form's X-Amz-Credential, X-Amz-Date or X-Amz-Signature is malformed")
        try self.init(credential: credential, names: "host", hex: hex, timestamp: timestamp, expires: nil, malformed: malformed)
    }

    private init(header: String, head: RequestHead) throws(S3Error) {
        let malformed = S3Error(
            .authorizationHeaderMalformed, "the Authorization header is not AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…")
        guard header.hasPrefix("AWS4-HMAC-SHA256 ") else { throw malformed }
        var fields: [String: String] = [:]
        for part in header.dropFirst("AWS4-HMAC-SHA256 ".count).split(separator: ",") {
            let pair = part.split(separator: "=", maxSplits: 1).map { $0.drop { $0 == " " } }
            guard pair.count == 2, fields.updateValue(String(pair[1]), forKey: String(pair[0])) == nil else { throw malformed }
        }
        guard let credential = fields["Credential"], let names = fields["SignedHeaders"], let hex = fields["Signature"],
            let timestamp = head.header("x-amz-date")
        else { throw malformed }
        try self.init(credential: credential, names: names, hex: hex, timestamp: timestamp, expires: nil, malformed: malformed)
    }

    private init(queryOf head: RequestHead) throws(S3Error) {
        let malformed = S3Error(
            .authorizationQueryParametersError,
            "a presigned URL needs X-Amz-Algorithm, -Credential, -Date, -Expires, -SignedHeaders and -Signature")
        guard head.parameter("X-Amz-Algorithm") == "AWS4-HMAC-SHA256", let credential = head.parameter("X-Amz-Credential"),
            let timestamp = head.parameter("X-Amz-Date"), let names = head.parameter("X-Amz-SignedHeaders"),
            let hex = head.parameter("X-Amz-Signature"), let expires = head.parameter("X-Amz-Expires").flatMap({ Int64($0) })
        else { throw malformed }
        guard (1...Self.longestExpiry).contains(expires) else {
            throw S3Error(.authorizationQueryParametersError, "X-Amz-Expires must be from 1 to \(Self.longestExpiry) seconds")
        }
        try self.init(credential: credential, names: names, hex: hex, timestamp: timestamp, expires: expires, malformed: malformed)
    }

    private init(
        credential: String, names: String, hex: String, timestamp: String, expires: Int64?, malformed: S3Error
    ) throws(S3Error) {
        // An access key may hold slashes; the scope's four parts do not.
        let parts = credential.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count >= 5, parts[parts.count - 1] == "aws4_request", parts[parts.count - 2] == "s3" else { throw malformed }
        accessKey = parts[..<(parts.count - 4)].joined(separator: "/")
        day = parts[parts.count - 4]
        region = parts[parts.count - 3]
        self.timestamp = timestamp
        signedHeaders = names.split(separator: ";", omittingEmptySubsequences: false).map(String.init)
        self.hex = hex
        self.expires = expires
        guard !accessKey.isEmpty, timestamp.hasPrefix(day), day.utf8.count == 8, Self.seconds(timestamp) != nil,
            signedHeaders.contains("host"), signedHeaders.allSatisfy({ !$0.isEmpty }), hex.utf8.count == 64
        else { throw malformed }
    }

    // MARK: - Signing

    /// The headers that sign a request of ours, `host` among them.
    package static func headers(
        _ method: String, target: String, host: String, headers: [(name: String, value: String)], payloadHash: String, accessKey: String,
        secret: String, region: String, at now: Milliseconds
    ) throws(S3Error) -> [(name: String, value: String)] {
        // 2024-07-12T19:14:40.144Z becomes 20240712T191440Z.
        let timestamp = Timestamp.text(now).filter { $0 != "-" && $0 != ":" }.prefix(15) + "Z"
        let all = headers + [("host", host), ("x-amz-date", String(timestamp)), ("x-amz-content-sha256", payloadHash)]
        let head = try RequestHead(method: method, target: target, headers: all)
        let names = Set(head.headers.map(\.name)).sorted().joined(separator: ";")
        let unsigned = S3Error(.authorizationHeaderMalformed, "the request cannot be signed with these credentials")
        let scope = "\(timestamp.prefix(8))/\(region)/s3/aws4_request"
        let draft = try Signature(
            credential: "\(accessKey)/\(scope)", names: names, hex: emptyHash, timestamp: String(timestamp), expires: nil,
            malformed: unsigned)
        let hex = sign(draft.stringToSign(head, payloadHash: payloadHash), key: draft.signingKey(secret: secret))
        let value = "AWS4-HMAC-SHA256 Credential=\(accessKey)/\(scope), SignedHeaders=\(names), Signature=\(hex)"
        return all + [("authorization", value)]
    }

    /// The query of a presigned URL, without its `?`: only the host is signed besides it.
    package static func query(
        _ method: String, target: String, host: String, accessKey: String, secret: String, region: String, seconds: Int64,
        at now: Milliseconds
    ) throws(S3Error) -> String {
        let timestamp = String(Timestamp.text(now).filter { $0 != "-" && $0 != ":" }.prefix(15) + "Z")
        let credential = "\(accessKey)/\(timestamp.prefix(8))/\(region)/s3/aws4_request"
        let encoded = String(decoding: PercentEncoding.encode(credential.utf8), as: UTF8.self)
        let query =
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=\(encoded)&X-Amz-Date=\(timestamp)"
            + "&X-Amz-Expires=\(min(max(1, seconds), longestExpiry))&X-Amz-SignedHeaders=host"
        let head = try RequestHead(method: method, target: "\(target)?\(query)", headers: [("host", host)])
        let unsigned = S3Error(.authorizationHeaderMalformed, "the request cannot be signed with these credentials")
        let draft = try Signature(
            credential: credential, names: "host", hex: emptyHash, timestamp: timestamp, expires: nil, malformed: unsigned)
        let hex = sign(draft.stringToSign(head, payloadHash: "UNSIGNED-PAYLOAD"), key: draft.signingKey(secret: secret))
        return "\(query)&X-Amz-Signature=\(hex)"
    }

    // MARK: - Checking

    /// Throws unless the request was signed with `secret`, is of this hour, and covers what it must cover.
    package func verify(_ head: RequestHead, secret: String, payloadHash: String, nowSeconds: Int64) throws(S3Error) {
        try verify(head, key: signingKey(secret: secret), payloadHash: payloadHash, nowSeconds: nowSeconds)
    }

    /// The same with a key that was derived before.
    package func verify(_ head: RequestHead, key: SymmetricKey, payloadHash: String, nowSeconds: Int64) throws(S3Error) {
        try checkTime(nowSeconds)
        for (name, _) in head.headers where name.hasPrefix("x-amz-") && !signedHeaders.contains(name) {
            throw S3Error(.accessDenied, "the header \(name) was sent but not signed")
        }
        let expected = Self.sign(stringToSign(head, payloadHash: payloadHash), key: key)
        guard Self.isEqual(expected, hex) else {
            throw S3Error(.signatureDoesNotMatch, "the signature does not match: check the secret key and how the request is signed")
        }
    }

    private func checkTime(_ now: Int64) throws(S3Error) {
        guard let then = Self.seconds(timestamp) else { throw S3Error(.accessDenied, "the request has no valid date") }
        if let expires {
            guard then - Self.maximumSkew <= now else { throw S3Error(.accessDenied, "the URL is not valid yet") }
            guard now <= then + expires else { throw S3Error(.accessDenied, "the URL has expired") }
        } else if abs(now - then) > Self.maximumSkew {
            throw S3Error(.requestTimeTooSkewed, "the request's time and the server's differ by more than \(Self.maximumSkew) seconds")
        }
    }

    package func stringToSign(_ head: RequestHead, payloadHash: String) -> String {
        let canonical = canonicalRequest(head, payloadHash: payloadHash)
        return "AWS4-HMAC-SHA256\n\(timestamp)\n\(scope)\n\(Self.text(SHA256.hash(data: canonical)))"
    }

    /// S3 encodes the path once, unlike other services; `RequestHead` made sure that it decodes.
    func canonicalRequest(_ head: RequestHead, payloadHash: String) -> [UInt8] {
        var out = Array("\(head.method)\n".utf8)
        out += PercentEncoding.encode(PercentEncoding.decode(head.rawPath) ?? head.rawPath, keepingSlash: true)
        out += "\n".utf8
        out += canonicalQuery(head)
        out += "\n".utf8
        for name in signedHeaders {
            let values = head.headers.filter { $0.name == name }.map { Self.collapse($0.value) }
            out += "\(name):\(values.joined(separator: ","))\n".utf8
        }
        out += "\n\(signedHeaders.joined(separator: ";"))\n\(payloadHash)".utf8
        return out
    }

    private func canonicalQuery(_ head: RequestHead) -> [UInt8] {
        let pairs = head.parameters.filter { !$0.name.elementsEqual("X-Amz-Signature".utf8) }.map {
            (name: PercentEncoding.encode($0.name), value: PercentEncoding.encode($0.value))
        }
        let sorted = pairs.sorted { left, right in
            left.name == right.name
                ? left.value.lexicographicallyPrecedes(right.value) : left.name.lexicographicallyPrecedes(right.name)
        }
        return Array(sorted.map { $0.name + [UInt8(ascii: "=")] + $0.value }.joined(separator: [UInt8(ascii: "&")]))
    }

    /// The key that signs for one day, region and secret: worth keeping, as it takes four hashes to make.
    package func signingKey(secret: String) -> SymmetricKey {
        var key = Array("AWS4\(secret)".utf8)
        for part in [day, region, "s3", "aws4_request"] { key = Self.hmac(SymmetricKey(data: key), part) }
        return SymmetricKey(data: key)
    }

    package static func sign(_ text: String, key: SymmetricKey) -> String { Self.text(hmac(key, text)) }

    package static let emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    /// The signature of one chunk of a signed stream, after the one before it.
    package func chunkSignature(previous: String, dataHash: String, key: SymmetricKey) -> String {
        Self.sign("AWS4-HMAC-SHA256-PAYLOAD\n\(timestamp)\n\(scope)\n\(previous)\n\(Self.emptyHash)\n\(dataHash)", key: key)
    }

    /// The signature of a signed stream's trailer, whose lines are `name:value\n`.
    package func trailerSignature(previous: String, lines: String, key: SymmetricKey) -> String {
        let hash = Self.text(SHA256.hash(data: Array(lines.utf8)))
        return Self.sign("AWS4-HMAC-SHA256-TRAILER\n\(timestamp)\n\(scope)\n\(previous)\n\(hash)", key: key)
    }

    /// Takes as long for a near miss as for a far one.
    package static func isEqual(_ left: String, _ right: String) -> Bool {
        guard left.utf8.count == right.utf8.count else { return false }
        return zip(left.utf8, right.utf8).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }

    // MARK: - Pieces

    /// Seconds since 1970 of `yyyyMMdd'T'HHmmss'Z'`; nil for anything else.
    static func seconds(_ timestamp: String) -> Int64? {
        let bytes = Array(timestamp.utf8)
        guard bytes.count == 16, bytes[8] == UInt8(ascii: "T"), bytes[15] == UInt8(ascii: "Z") else { return nil }
        func number(_ range: Range<Int>) -> Int64? {
            let digits = bytes[range]
            guard digits.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
            return digits.reduce(0) { $0 * 10 + Int64($1 - 0x30) }
        }
        guard let year = number(0..<4), let month = number(4..<6), let day = number(6..<8), let hour = number(9..<11),
            let minute = number(11..<13), let second = number(13..<15), (1...12).contains(month), (1...31).contains(day), hour < 24,
            minute < 60, second < 61
        else { return nil }
        // Days since 1970 in the Gregorian calendar, with the year beginning in March.
        let shiftedYear = month <= 2 ? year - 1 : year
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        let days = 365 * shiftedYear + shiftedYear / 4 - shiftedYear / 100 + shiftedYear / 400 + dayOfYear - 719_468
        return ((days * 24 + hour) * 60 + minute) * 60 + second
    }

    /// Without space at the ends, and with one where there are several.
    private static func collapse(_ value: String) -> String { value.split(separator: " ").joined(separator: " ") }

    private static func hmac(_ key: SymmetricKey, _ text: String) -> [UInt8] {
        Array(HMAC<SHA256>.authenticationCode(for: Array(text.utf8), using: key))
    }

    /// Lower-case hexadecimal.
    package static func text(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
