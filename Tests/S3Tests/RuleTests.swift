import S3
import Testing

@Suite struct HeadTests {
    private func parse(_ text: String) throws -> HTTPHead { try HTTPHead(Array(text.utf8)[...]) }

    @Test func aGoodHead() throws {
        let head = try parse(
            "PUT /b/a%20b?partNumber=1 HTTP/1.1\r\nHost: h\r\nX-Two: a\r\nx-two:  b \r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        #expect(head.request.method == "PUT" && head.request.header("x-two") == "a,b" && head.framing == .length(5))
        #expect(head.keepsAlive && head.expectsContinue && head.request.parameter("partNumber") == "1")
    }

    @Test func itsEndIsFoundWhereverItLies() {
        let text = Array("GET / HTTP/1.1\r\nHost: x\r\n\r\nrest".utf8)
        for count in 0...text.count {
            #expect(HTTPHead.end(of: text[..<count]) == (count >= text.count - 4 ? text.count - 4 : nil))
        }
        #expect(HTTPHead.end(of: Array("\r\r\n\r\n".utf8)[...]) == 5)
        #expect(HTTPHead.end(of: Array("\n\r\n\r\n\r\n".utf8)[...]) == 7 - 2)
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/3\r\nHost: x\r\n\r\n", "GET\u{7F} / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\u{1}\r\n\r\n",
    ])
    func whatCouldBeReadInTwoWaysIsRefused(text: String) { #expect(throws: S3Error.self) { try parse(text) } }
}

@Suite struct RangeTests {
    @Test func ranges() throws {
        #expect(try ByteRange.parse("bytes=2-4", size: 10) == ByteRange(offset: 2, length: 3))
        #expect(try ByteRange.parse("bytes=2-", size: 10) == ByteRange(offset: 2, length: 8))
        #expect(try ByteRange.parse("bytes=-3", size: 10) == ByteRange(offset: 7, length: 3))
        #expect(try ByteRange.parse("bytes=-30", size: 10) == ByteRange(offset: 0, length: 10))
        #expect(try ByteRange.parse("bytes=5-2", size: 10) == nil)
        #expect(try ByteRange.parse("bytes=0-9999999999999999", size: .max)?.length == 10_000_000_000_000_000)
        for text in ["bytes=10-", "bytes=-0", "bytes=10-20"] { #expect(throws: S3Error.self) { try ByteRange.parse(text, size: 10) } }
        #expect(throws: S3Error.self) { try ByteRange.parse("bytes=0-0", size: 0) }
    }
}

@Suite struct PreconditionTests {
    private func conditions(_ headers: [(String, String)]) throws -> Preconditions {
        Preconditions(try RequestHead(method: "GET", target: "/", headers: headers.map { (name: $0.0, value: $0.1) }))
    }

    @Test func readingAsRFC9110OrdersThem() throws {
        let time: Int64 = 784_111_777
        let date = HTTPDate.text(time)
        #expect(date == "Sun, 06 Nov 1994 08:49:37 GMT" && HTTPDate.parse(date) == time)
        #expect(try conditions([("if-match", "\"x\"")]).forReading(etag: "y", modified: time) == .failed)
        #expect(try conditions([("if-match", "\"x\", \"y\"")]).forReading(etag: "y", modified: time) == .proceed)
        #expect(try conditions([("if-none-match", "W/\"y\"")]).forReading(etag: "y", modified: time) == .notModified)
        #expect(try conditions([("if-modified-since", date)]).forReading(etag: "y", modified: time) == .notModified)
        #expect(try conditions([("if-unmodified-since", date)]).forReading(etag: "y", modified: time + 1) == .failed)
        // The ETag's condition is the one that counts.
        let both = try conditions([("if-none-match", "\"x\""), ("if-modified-since", date)])
        #expect(both.forReading(etag: "y", modified: time) == .proceed)
    }

    @Test func writing() throws {
        let none = try conditions([("if-none-match", "*")])
        #expect(none.wantsNone)
        try none.checkWriting(over: nil)
        #expect(throws: S3Error.self) { try none.checkWriting(over: "x") }
        let match = try conditions([("if-match", "\"x\"")])
        try match.checkWriting(over: "x")
        #expect(#expect(throws: S3Error.self) { try match.checkWriting(over: "y") }?.code == .preconditionFailed)
        #expect(#expect(throws: S3Error.self) { try match.checkWriting(over: nil) }?.code == .noSuchKey)
    }
}

@Suite struct SmallPartsTests {
    @Test func base64() {
        for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            #expect(Base64.encode(Array(text.utf8)) == encoded && Base64.decode(encoded) == Array(text.utf8))
        }
        for text in ["Z", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm-_"] { #expect(Base64.decode(text) == nil) }
    }

    @Test func checksumsOfPiecesMakeTheChecksumOfTheWhole() {
        let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        for algorithm in ChecksumAlgorithm.allCases where algorithm.isCombinable {
            func value(_ range: Range<Int>) -> [UInt8] {
                var checksum = Checksum(algorithm)
                bytes[range].withUnsafeBytes { checksum.update($0) }
                return checksum.value
            }
            for cut in [0, 1, 7, 4_096, 9_999, 10_000] {
                let combined = algorithm.combine(value(0..<cut), value(cut..<10_000), secondLength: Int64(10_000 - cut))
                #expect(combined == value(0..<10_000), "\(algorithm) \(cut)")
            }
        }
    }

    @Test func bucketsInPathAndHost() throws {
        func address(_ target: String, _ host: String) throws -> Address {
            try Address(
                RequestHead(method: "GET", target: target, headers: [(name: "host", value: host)]), domains: ["localhost", "s3.example"])
        }
        #expect(try address("/b/k/x", "127.0.0.1:9000").bucket == "b")
        #expect(try address("/k/x", "b.localhost:9000").key == Array("k/x".utf8))
        #expect(try address("/", "B.s3.example").bucket == "b")
        #expect(try address("/b/", "localhost").key.isEmpty)
        #expect(try address("/", "localhost").bucket == nil)
        #expect(throws: S3Error.self) { try address("//k", "localhost") }
    }

    @Test func aRecordIsReadBackAndAForgedOneIsNot() throws {
        var record = ObjectRecord(etag: "0123456789abcdef0123456789abcdef-3")
        record.headers = ["content-type": "a/b"]
        record.metadata = ["k": "v é"]
        record.tags = try Tags([.init(key: "t", value: "")])
        record.checksum = .init(algorithm: .sha256, value: "AAAA-3")
        (record.size, record.modifiedNs, record.parts, record.upload) = (5, 7, "5x1", "id")
        #expect(ObjectRecord(record.bytes) == record)
        for text in ["", "1 x", "2 - 5 7\n{}", "1 zz 5 7\n{}", "1 - 5 7\n{\"h\":{\"content-type\":\"a\\r\\nb\"}}", "1 - 5 7\nnull x"] {
            #expect(ObjectRecord(Array(text.utf8)) == nil, "\(text)")
        }
    }
}
