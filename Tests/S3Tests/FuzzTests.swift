import S3
import Testing

/// A million inputs, made from good ones by a seeded generator, for everything that reads what a client or a worker wrote.
/// They pass when nothing traps and nothing hangs.
@Suite struct FuzzTests {
    /// Linear congruence: the same inputs in every run.
    private struct Generator: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 29
        }
    }

    private static let pieces: [[UInt8]] =
        [
            "", "\r\n", "\r\n\r\n", ":", ";", ",", "=", "&", "%", "%2", "%zz", "%00", "/", "//", "..", "bytes=", "-", "0", "9",
            "99999999999999999999",
            "-1", "+5", "0x10", "ffffffff", "chunk-signature=", "Credential=", "SignedHeaders=host", "Signature=", "aws4_request", "s3",
            "<", ">", "</",
            "/>", "<!--", "-->", "<![CDATA[", "]]>", "<!DOCTYPE", "&amp;", "&#x10FFFF;", "&#0;", "é", "\u{0}", " ", "\t", "\"", "{", "}",
            "[", "]", "null",
            "1e999", "HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 5", "Host: x", "x-amz-date: 20130524T000000Z",
        ].map { Array($0.utf8) } + [[0xFF], [0xC0, 0xAF], [0xED, 0xA0, 0x80]]

    /// A good input with some of it cut, doubled, moved or replaced.
    private func mutate(_ good: [UInt8], _ generator: inout Generator) -> [UInt8] {
        var bytes = good
        for _ in 0..<Int.random(in: 0...4, using: &generator) {
            let place = Int.random(in: 0...bytes.count, using: &generator)
            let end = min(bytes.count, place + Int.random(in: 0...12, using: &generator))
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: bytes.removeSubrange(place..<end)
            case 1: bytes.insert(contentsOf: Array(bytes[place..<end]), at: place)
            case 2: bytes.replaceSubrange(place..<end, with: Self.pieces.randomElement(using: &generator) ?? [])
            default: if place < bytes.count { bytes[place] = UInt8.random(in: 0...255, using: &generator) }
            }
        }
        return bytes
    }

    private func run(_ count: Int, seed: UInt64, _ goods: [String], _ body: ([UInt8], inout Generator) -> Void) {
        var generator = Generator(state: seed)
        let goods = goods.map { Array($0.utf8) }
        for _ in 0..<count {
            let good = goods.randomElement(using: &generator) ?? []
            body(mutate(good, &generator), &generator)
        }
    }

    private static let hex = String(repeating: "ab", count: 32)
    private static let authorization =
        "AWS4-HMAC-SHA256 Credential=K/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=\(hex)"
    private static let query =
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=K%2F20130524%2Fr%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=60"
        + "&X-Amz-SignedHeaders=host&X-Amz-Signature=\(hex)"

    @Test func heads() {
        let goods = [
            "GET /b/k?list-type=2&prefix=a%2Fb HTTP/1.1\r\nHost: b.localhost:9000\r\nRange: bytes=0-5\r\nAuthorization: \(Self.authorization)\r\n"
                + "x-amz-date: 20130524T000000Z\r\nx-amz-tagging: a=b&c=d\r\n\r\n",
            "PUT http://h/b/k HTTP/1.0\r\nHost: h\r\nContent-Length: 5\r\nConnection: keep-alive\r\nIf-None-Match: *, W/\"x\"\r\n\r\n",
            "GET /b/k?\(Self.query) HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /b/k?AWSAccessKeyId=K&Signature=c2ln&Expires=1795551824 HTTP/1.1\r\nHost: h\r\n\r\n",
        ]
        run(300_000, seed: 1, goods) { bytes, _ in
            guard let end = HTTPHead.end(of: bytes[...]), let head = try? HTTPHead(bytes[..<end]) else { return }
            let request = head.request
            let range = request.header("range")
            for size in [Int64(0), 1, .max] { _ = try? ByteRange.parse(range, size: size) }
            _ = try? ByteRange.copySource(range, size: 10)
            _ = Preconditions(request).forReading(etag: "x", modified: 0)
            _ = try? Address(request, domains: ["localhost"])
            _ = try? Tags(header: request.header("x-amz-tagging") ?? "")
            if let signature = try? Signature(request) {
                try? signature.verify(request, secret: "s", payloadHash: Signature.emptyHash, nowSeconds: 1_369_353_600)
            }
            if let old = try? SignatureV2(request) { try? old.verify(request, secret: "s", bucketInHost: nil, nowSeconds: 1_795_551_000) }
        }
    }

    @Test func signatures() {
        run(200_000, seed: 2, [Self.authorization, Self.query]) { bytes, generator in
            let text = String(decoding: bytes, as: UTF8.self)
            let isHeader = Bool.random(using: &generator)
            let headers = [(name: "host", value: "h"), (name: "x-amz-date", value: "20130524T000000Z")]
            let all = headers + (isHeader ? [(name: "authorization", value: text)] : [])
            guard let head = try? RequestHead(method: "GET", target: isHeader ? "/" : "/?" + text, headers: all) else { return }
            if let signature = try? Signature(head) {
                try? signature.verify(head, secret: "s", payloadHash: Signature.emptyHash, nowSeconds: 1_369_353_600)
            }
        }
    }

    @Test func chunks() {
        let signed = "5;chunk-signature=\(Self.hex)\r\nhello\r\n0;chunk-signature=\(Self.hex)\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
        let plain = "5\r\nhello\r\nA\r\n0123456789\r\n0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n"
        run(250_000, seed: 3, [signed, plain]) { bytes, generator in
            var decoder = ChunkDecoder(isSigned: Bool.random(using: &generator), decodedLength: Int.random(in: 0...20, using: &generator))
            var rest = bytes[...]
            while !rest.isEmpty {
                let piece = rest.prefix(Int.random(in: 1...8, using: &generator))
                rest = rest.dropFirst(piece.count)
                guard (try? decoder.feed(piece)) != nil else { return }
            }
            try? decoder.finish()
        }
    }

    @Test func documents() {
        let goods = [
            "<?xml version=\"1.0\"?><Delete xmlns=\"x\"><Object><Key>a&amp;b</Key></Object><Quiet>true</Quiet></Delete>",
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;x&quot;</ETag></Part></CompleteMultipartUpload>",
            "<Tagging><TagSet><Tag><Key>k</Key><Value><![CDATA[v]]></Value></Tag></TagSet><!-- c --></Tagging>",
        ]
        run(200_000, seed: 4, goods) { bytes, _ in
            guard let root = try? XMLReader.parse(bytes) else { return }
            _ = try? Tags(root)
        }
    }

    @Test func recordsKeysAndPolicies() {
        let record =
            "1 \(String(repeating: "a", count: 32)) 5 1700000000000000000\n"
            + "{\"h\":{\"content-type\":\"a/b\"},\"m\":{\"k\":\"v\"},\"t\":[\"a\",\"b\"],\"a\":\"CRC32\",\"c\":\"AAAA\",\"p\":\"5x1\",\"u\":\"x\"}"
        let policy =
            "{\"expiration\":\"2030-01-01T00:00:00Z\",\"conditions\":[{\"bucket\":\"b\"},[\"starts-with\",\"$key\",\"a\"],[\"content-length-range\",1,9]]}"
        run(100_000, seed: 5, [record, policy, "a/b/c", "../x", "AAAA=="]) { bytes, _ in
            if let record = ObjectRecord(bytes) { _ = record.bytes }
            _ = try? FormPolicy(base64: Base64.encode(bytes))
            _ = try? ObjectKey(bytes)
            _ = Base64.decode(String(decoding: bytes, as: UTF8.self))
            _ = HTTPDate.parse(String(decoding: bytes, as: UTF8.self))
        }
    }
}
