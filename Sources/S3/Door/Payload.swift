import Crypto

/// How the bytes of a request are signed: what `x-amz-content-sha256` says.
enum PayloadMode: Equatable, Sendable {
    case signed(hash: String)
    case unsigned
    case streaming(isSigned: Bool, hasTrailer: Bool)

    init(_ value: String) throws(S3Error) {
        switch value {
        case "UNSIGNED-PAYLOAD": self = .unsigned
        case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": self = .streaming(isSigned: true, hasTrailer: false)
        case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": self = .streaming(isSigned: true, hasTrailer: true)
        case "STREAMING-UNSIGNED-PAYLOAD-TRAILER": self = .streaming(isSigned: false, hasTrailer: true)
        default:
            guard value.utf8.count == 64, value.allSatisfy(\.isHexDigit) else {
                let known = "UNSIGNED-PAYLOAD, a STREAMING-… mode of SigV4, or a SHA-256 in hexadecimal"
                throw S3Error(value.hasPrefix("STREAMING-") ? .notImplemented : .invalidArgument, "x-amz-content-sha256 must be \(known)")
            }
            self = .signed(hash: value.lowercased())
        }
    }
}

/// Streams a request's payload: takes framing off, checks signatures and every digest that was promised.
struct Payload {
    /// What came, once all of it was right.
    struct Received {
        var size: Int64
        var md5: String
        var checksum: ObjectRecord.StoredChecksum?
    }

    private let caller: Caller
    private let request: RequestHead
    private let body: BodyReader
    /// Bytes of the payload, if they were announced.
    let length: Int?
    private var md5 = Insecure.MD5()
    private var sha256: SHA256?
    private var checksum: Checksum?
    private var expectedChecksum: String?
    private let expectedMD5: [UInt8]?
    private let trailerName: String?
    private var size: Int64 = 0

    private static let bufferBytes = 256 << 10

    /// `algorithm` is computed also where the client promised none. Where an upload is completed, the checksum in the head is
    /// the object's and not that of this body.
    init(
        _ request: RequestHead, _ caller: Caller, _ body: BodyReader, algorithm: ChecksumAlgorithm? = nil, checksumIsOfObject: Bool = false
    ) throws(S3Error) {
        (self.request, self.caller, self.body) = (request, caller, body)
        if case .streaming = caller.payload {
            guard let decoded = request.header("x-amz-decoded-content-length").flatMap(HTTPHead.number) else {
                throw S3Error(.missingContentLength, "x-amz-decoded-content-length is missing or no length")
            }
            length = decoded
        } else {
            length = body.length
        }
        if case .signed = caller.payload { sha256 = SHA256() }
        expectedMD5 = try Self.contentMD5(request)
        let given = ChecksumAlgorithm.allCases.filter { !checksumIsOfObject && request.header($0.header) != nil }
        let trailer = request.header("x-amz-trailer").map { $0.lowercased() }
        let trailed = ChecksumAlgorithm.allCases.first { $0.header == trailer }
        guard given.count + (trailed == nil ? 0 : 1) <= 1 else {
            throw S3Error(.invalidRequest, "more than one x-amz-checksum- was sent")
        }
        if trailer != nil, trailed == nil { throw S3Error(.invalidRequest, "x-amz-trailer names no checksum that is known") }
        trailerName = trailer
        if let first = given.first {
            expectedChecksum = request.header(first.header)
            try Self.check(expectedChecksum ?? "", first)
        }
        let wanted = request.header("x-amz-sdk-checksum-algorithm").flatMap { ChecksumAlgorithm(rawValue: $0.uppercased()) }
        checksum = (given.first ?? trailed ?? algorithm ?? wanted).map(Checksum.init)
    }

    private static func contentMD5(_ request: RequestHead) throws(S3Error) -> [UInt8]? {
        guard let text = request.header("content-md5") else { return nil }
        guard let bytes = Base64.decode(text), bytes.count == 16 else {
            throw S3Error(.invalidDigest, "Content-MD5 is not 16 bytes in base64")
        }
        return bytes
    }

    private static func check(_ value: String, _ algorithm: ChecksumAlgorithm) throws(S3Error) {
        guard let bytes = Base64.decode(value), bytes.count == Checksum(algorithm).value.count else {
            throw S3Error(.invalidRequest, "the value of \(algorithm.header) is not a \(algorithm.rawValue) in base64")
        }
    }

    /// Hands the payload to `sink` piece by piece, then checks all of it.
    mutating func receive(_ sink: (UnsafeRawBufferPointer) throws -> Void) throws -> Received {
        var trailers: [(name: String, value: String)] = []
        if case .streaming(let isSigned, _) = caller.payload {
            trailers = try receiveChunks(isSigned: isSigned, sink)
        } else {
            try eachBuffer { bytes, payload in try payload.take(bytes, sink) }
        }
        return try finish(trailers)
    }

    /// A whole small payload.
    mutating func collect(limit: Int) throws -> [UInt8] {
        guard (length ?? 0) <= limit else { throw S3Error(.entityTooLarge, "the request's body is over \(limit) bytes") }
        var bytes: [UInt8] = []
        _ = try receive { piece in
            guard bytes.count + piece.count <= limit else { throw S3Error(.entityTooLarge, "the request's body is over \(limit) bytes") }
            bytes += piece
        }
        return bytes
    }

    private mutating func eachBuffer(_ body: (UnsafeRawBufferPointer, inout Payload) throws -> Void) throws {
        // Small requests need no big buffer, and large ones no more than this one.
        let wanted = min(max(self.body.length ?? Self.bufferBytes, 1), Self.bufferBytes)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: wanted, alignment: 64)
        defer { buffer.deallocate() }
        while true {
            let count = try self.body.read(buffer)
            if count == 0 { return }
            try body(UnsafeRawBufferPointer(rebasing: buffer[..<count]), &self)
        }
    }

    private mutating func take(_ bytes: UnsafeRawBufferPointer, _ sink: (UnsafeRawBufferPointer) throws -> Void) throws {
        md5.update(bufferPointer: bytes)
        sha256?.update(bufferPointer: bytes)
        checksum?.update(bytes)
        size += Int64(bytes.count)
        try sink(bytes)
    }

    private mutating func receiveChunks(
        isSigned: Bool, _ sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws -> [(name: String, value: String)] {
        var decoder = ChunkDecoder(isSigned: isSigned, decodedLength: length ?? 0)
        var chunkHash = SHA256()
        guard let seed = caller.seed else { throw S3Error(.accessDenied, "a signed stream needs a signature of version 4") }
        var previous = seed.signature.hex
        var trailers: [(name: String, value: String)] = []
        try eachBuffer { bytes, payload in
            for event in try decoder.feed(bytes) {
                switch event {
                case .data(let piece):
                    if isSigned { chunkHash.update(data: piece) }
                    try piece.withUnsafeBytes { try payload.take($0, sink) }
                case .chunkEnd(let given):
                    guard isSigned else { continue }
                    let hash = Signature.text(chunkHash.finalize())
                    let wanted = seed.signature.chunkSignature(previous: previous, dataHash: hash, key: seed.key)
                    guard Signature.isEqual(wanted, given ?? "") else {
                        throw S3Error(.signatureDoesNotMatch, "the signature of a chunk does not match")
                    }
                    previous = wanted
                    chunkHash = SHA256()
                case .trailer(let name, let value): trailers.append((name, value))
                case .end: break
                }
            }
        }
        try decoder.finish()
        if isSigned, !trailers.isEmpty { try checkTrailerSignature(&trailers, seed, previous: previous) }
        return trailers
    }

    private func checkTrailerSignature(
        _ trailers: inout [(name: String, value: String)], _ seed: Caller.Seed, previous: String
    ) throws(S3Error) {
        let given = trailers.first { $0.name == "x-amz-trailer-signature" }?.value
        trailers.removeAll { $0.name == "x-amz-trailer-signature" }
        let lines = trailers.map { "\($0.name):\($0.value)\n" }.joined()
        let wanted = seed.signature.trailerSignature(previous: previous, lines: lines, key: seed.key)
        guard let given, Signature.isEqual(wanted, given) else {
            throw S3Error(.signatureDoesNotMatch, "the signature of the trailer does not match")
        }
    }

    private mutating func finish(_ trailers: [(name: String, value: String)]) throws(S3Error) -> Received {
        if let trailerName {
            guard let value = trailers.first(where: { $0.name == trailerName })?.value else {
                throw S3Error(.invalidRequest, "the trailer \(trailerName) was announced and did not come")
            }
            if let checksum { try Self.check(value, checksum.algorithm) }
            expectedChecksum = value
        }
        if case .signed(let hash) = caller.payload, let sha256, Signature.text(sha256.finalize()) != hash {
            throw S3Error(.contentSHA256Mismatch, "the body is not the one that was signed: its SHA-256 is another")
        }
        let digest = Array(md5.finalize())
        if let expectedMD5, expectedMD5 != digest { throw S3Error(.badDigest, "the body's MD5 is not what Content-MD5 says") }
        let value = checksum.map { Base64.encode($0.value) }
        if let checksum, let expectedChecksum, expectedChecksum != value {
            throw S3Error(.badDigest, "the body's \(checksum.algorithm.rawValue) is \(value ?? ""), not \(expectedChecksum)")
        }
        let stored = checksum.map { ObjectRecord.StoredChecksum(algorithm: $0.algorithm, value: value ?? "") }
        return Received(size: size, md5: Signature.text(digest), checksum: stored)
    }
}
