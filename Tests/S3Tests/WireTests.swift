import S3
import Testing

@Suite struct ChunkDecoderTests {
    private func decode(_ text: String, isSigned: Bool = false, length: Int, split: Int? = nil) throws -> (data: String, trailers: [String])
    {
        var decoder = ChunkDecoder(isSigned: isSigned, decodedLength: length)
        let bytes = Array(text.utf8)
        var events = try decoder.feed(bytes[..<(split ?? bytes.count)])
        if let split { events += try decoder.feed(bytes[split...]) }
        try decoder.finish()
        var data: [UInt8] = []
        var trailers: [String] = []
        for event in events {
            switch event {
            case .data(let piece): data += piece
            case .trailer(let name, let value): trailers.append("\(name)=\(value)")
            case .chunkEnd, .end: break
            }
        }
        return (String(decoding: data, as: UTF8.self), trailers)
    }

    @Test func everySplitGivesTheSame() throws {
        let text = "5\r\nhello\r\nA\r\n 0123\r\n6789\r\n0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n"
        let length = 15
        let whole = try decode(text.replacingSpace(), length: length)
        for split in 0...text.replacingSpace().utf8.count {
            let parts = try decode(text.replacingSpace(), length: length, split: split)
            #expect(parts.data == whole.data && parts.trailers == whole.trailers)
        }
        #expect(whole.data == "hello_0123\r\n678")
        #expect(whole.trailers == ["x-amz-checksum-crc32=AAAAAA=="])
    }

    @Test func signaturesAreHandedOut() throws {
        let hex = String(repeating: "ab", count: 32)
        var decoder = ChunkDecoder(isSigned: true, decodedLength: 2)
        let events = try decoder.feed(Array("2;chunk-signature=\(hex)\r\nhi\r\n0;chunk-signature=\(hex)\r\n\r\n".utf8))
        #expect(events == [.data(Array("hi".utf8)), .chunkEnd(signature: hex), .chunkEnd(signature: hex), .end])
    }

    @Test(arguments: [
        "", "5\r\nhel", "5\r\nhello0\r\n\r\n", "zz\r\n", "-1\r\n", "+5\r\nhello\r\n0\r\n\r\n", "123456789\r\n",
        "5;x=y\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\n\r\nmore", "4\r\nhell\r\n0\r\n\r\n", "6\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "5;chunk-signature=00\r\nhello\r\n0\r\n\r\n", "\r\n", " 5\r\nhello\r\n0\r\n\r\n",
    ])
    func lyingOrBrokenFramesAreRefused(text: String) {
        #expect(throws: S3Error.self) { try decode(text, length: 5) }
    }

    @Test func anEndlessLineIsRefused() {
        var decoder = ChunkDecoder(isSigned: false, decodedLength: 1)
        #expect(throws: S3Error.self) { try decoder.feed([UInt8](repeating: UInt8(ascii: "0"), count: 5_000)) }
    }
}

extension String {
    /// The example's data has no spaces to trip over.
    fileprivate func replacingSpace() -> String { replacing(" 0123\r\n6789", with: "_0123\r\n678") }
}

@Suite struct ChecksumTests {
    private func value(_ algorithm: ChecksumAlgorithm, _ bytes: [UInt8], split: Int = 0) -> String {
        var checksum = Checksum(algorithm)
        bytes[..<split].withUnsafeBytes { checksum.update($0) }
        bytes[split...].withUnsafeBytes { checksum.update($0) }
        return checksum.value.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    /// The check values of the CRC catalogue, and of FIPS 180, for "123456789".
    @Test(arguments: [
        (ChecksumAlgorithm.crc32, "cbf43926"), (.crc32c, "e3069283"), (.crc64nvme, "ae8b14860a799888"),
        (.sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        (.sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
    ])
    func knownValues(algorithm: ChecksumAlgorithm, expected: String) {
        for split in 0...9 { #expect(value(algorithm, Array("123456789".utf8), split: split) == expected) }
    }

    @Test func longInputsDoNotDependOnTheirSplit() {
        let bytes = (0..<1_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        for algorithm in ChecksumAlgorithm.allCases {
            let whole = value(algorithm, bytes)
            for split in [1, 7, 8, 9, 500, 999] { #expect(value(algorithm, bytes, split: split) == whole) }
        }
    }
}

@Suite struct XMLTests {
    @Test func documentsOfClientsAreRead() throws {
        let text = """
            <?xml version="1.0" encoding="UTF-8"?><!-- c --><s3:Delete xmlns:s3="x"><Object><Key>a&amp;b&#x41;</Key></Object>
            <Object><Key><![CDATA[<c>]]></Key></Object><Quiet/></s3:Delete>
            """
        let root = try XMLReader.parse(Array(text.utf8))
        #expect(root.name == "Delete" && root.all("Object").map { $0["Key"]?.text } == ["a&bA", "<c>"])
        #expect(root["Quiet"] != nil)
    }

    @Test(arguments: [
        "", "<a>", "<a></b>", "<a/><b/>", "text", "<a b></a>", "<a b=c/>", "<a>&nope;</a>", "<a>&#0;</a>", "<a>&#xD800;</a>",
        "<a><!-- </a>",
        "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "<a>\u{FFFD}</a", "< a/>", "<a>&#99999999999;</a>", "<a/ >",
    ])
    func brokenDocumentsAreRefused(text: String) {
        #expect(#expect(throws: S3Error.self) { try XMLReader.parse(Array(text.utf8)) }?.code == .malformedXML)
    }

    @Test func bombsAreRefused() {
        let deep = String(repeating: "<a>", count: 1_000)
        #expect(throws: S3Error.self) { try XMLReader.parse(Array(deep.utf8)) }
        #expect(throws: S3Error.self) { try XMLReader.parse([UInt8](repeating: 0x20, count: XMLReader.maximumBytes + 1)) }
        #expect(throws: S3Error.self) { try XMLReader.parse([0x3C, 0x61, 0x3E, 0xFF, 0x3C, 0x2F, 0x61, 0x3E]) }
    }

    @Test func whatIsWrittenIsReadBack() throws {
        var xml = XMLWriter()
        xml.element("A") { $0.text("B", "<&>\"\u{1} é\r") }
        #expect(try XMLReader.parse(xml.bytes)["B"]?.text == "<&>\"\u{FFFD} é\r")
    }
}

@Suite struct ObjectKeyTests {
    @Test(arguments: ["a", "a/b", "a/b/", "é", "...", "a b", ".hidden", String(repeating: "x", count: 255), "a%2Fb"])
    func pathsAreKeys(text: String) throws {
        let key = try ObjectKey(Array(text.utf8))
        #expect(key.text == text && key.isDirectory == text.hasSuffix("/"))
    }

    @Test(
        arguments: [
            [], [0x2F], Array("/a".utf8), Array("a//b".utf8), Array("..".utf8), Array("a/../b".utf8), Array("./a".utf8), Array("a/.".utf8),
            Array("a/..".utf8), Array("a//".utf8), [0x61, 0], [0xFF], [UInt8](repeating: 0x61, count: 256),
            [UInt8](repeating: 0x61, count: 1_025),
            [0xC0, 0xAF], [0xED, 0xA0, 0x80],
        ] as [[UInt8]])
    func whatCouldBeAnotherPathIsRefused(bytes: [UInt8]) {
        #expect(throws: S3Error.self) { try ObjectKey(bytes) }
    }
}
