import ControlPlane
import Resource
import Testing

@Suite struct OutputScannerTests {
    private func scan(_ text: String, splitAt split: Int? = nil) throws -> (output: String, scanner: OutputScanner) {
        var scanner = OutputScanner()
        var out: [UInt8] = []
        let bytes = Array(text.utf8)
        for part in split.map({ [bytes[..<$0], bytes[$0...]] }) ?? [bytes[...]] {
            try Array(part).withUnsafeBytes { out += try scanner.feed($0) }
        }
        return (String(decoding: out, as: UTF8.self), scanner)
    }

    @Test func givesTheOutputWhereverTheBodyIsCut() throws {
        let text =
            #" {"a": {"x": [1, "}"]}, "output": {"k\"ey": "v\\", "n": [NaN, -Infinity, -1.5e3, true], "s": "long enough to be looked at 32 bytes at once, \u00e9"} , "error" : "e\"" }"#
        let wanted = #"{"k\"ey": "v\\", "n": [null, null, -1.5e3, true], "s": "long enough to be looked at 32 bytes at once, \u00e9"}"#
        for split in 0...text.utf8.count {
            let (output, scanner) = try scan(text, splitAt: split)
            #expect(output == wanted && scanner.isComplete)
            #expect(scanner.members["error"] == Array(#""e\"""#.utf8) && scanner.members["a"] == Array(#"{"x": [1, "}"]}"#.utf8))
        }
    }

    @Test(arguments: [
        (#"{"output":5}"#, "5"), (#"{"output":"x"}"#, "\"x\""), (#"{"output":NaN}"#, "null"), (#"{"output":[],"error":null}"#, "[]"),
        ("{}", ""),
    ])
    func scalarsAndEmptiness(_ text: String, _ wanted: String) throws {
        let (output, scanner) = try scan(text)
        #expect(output == wanted && scanner.isComplete)
    }

    @Test(arguments: [
        "[1]", #"{"output":[}"#, #"{"output":1,"output":2}"#, #"{"output":{]}"#, #"{"output" 5}"#, #"{"output":5} x"#, #"{"output":5,}x"#,
        #"{"output":,}"#,
    ])
    func refusesWhatIsNoObject(_ text: String) { #expect(throws: OutputScanner.Malformed.self) { try self.scan(text) } }

    @Test(arguments: [#"{"output":["#, #"{"output":"x"#, #"{"output":5"#, ""])
    func knowsWhatIsCutOff(_ text: String) throws { #expect(try !scan(text).scanner.isComplete) }

    @Test func nestingHasABound() {
        #expect(throws: OutputScanner.Malformed.self) { try self.scan(#"{"output":"# + String(repeating: "[", count: 10_000)) }
    }
}

@Suite struct InputReferenceTests {
    @Test func findsAndReplacesInOrder() throws {
        let input = Array(
            ##"{"a":{"$ref":{"store":"s","key":"x/my file.bin","size":5}},"b":[{"$ref":{"url":"https://h/p/q.png?sig=1"}},{"$ref":"#/left"}],"n":1e400}"##
                .utf8)
        let found = try InputReferences.find(in: input)
        #expect(found.map(\.source) == [.object(.store("s"), key: "x/my file.bin"), .url("https://h/p/q.png?sig=1")])
        #expect(found.map(\.fileName) == ["my_file.bin", "q.png"] && found[0].size == 5)
        let replaced = try InputReferences.replace(in: input, by: ["one", "two"])
        #expect(String(decoding: replaced, as: UTF8.self) == ##"{"a":"one","b":["two",{"$ref":"#/left"}],"n":1e400}"##)
    }

    @Test(arguments: ["{}", #"{"$ref2":1,"x$ref":2}"#, #"{"a":"$","b":"$re"}"#, "$"])
    func mostInputsAreNotParsed(_ text: String) { #expect(!InputReferences.mayBe(in: Array(text.utf8))) }

    @Test(arguments: ["..", ".", "a/..", "%2e", "é", ""])
    func fileNamesAreNames(_ key: String) {
        let name = InputReferences.Reference(source: .object(.store("s"), key: key)).fileName
        #expect(!name.isEmpty && !name.contains("/") && !name.allSatisfy { $0 == "." })
    }
}

@Suite struct NetworkAddressTests {
    @Test(arguments: [
        "169.254.169.254", "[fe80::1]", "FE80::1", "febf::1", "::ffff:169.254.1.1", "metadata.google.internal", "metadata.google.internal.",
        "fd00:ec2::254",
    ])
    func linkLocal(_ host: String) { #expect(NetworkAddress.isLinkLocal(host)) }

    @Test(arguments: ["10.0.0.1", "febr.example.com", "fe.example", "fec0::1", "2001:db8::1", "169.25.4.1", "s3.example.com"])
    func ordinary(_ host: String) { #expect(!NetworkAddress.isLinkLocal(host)) }
}

@Suite struct BucketMountTests {
    @Test func reads() throws {
        let mount = try BucketMount("store:a/b=/models/x:rw")
        #expect(mount.store == "store" && mount.prefix == "a/b" && mount.path == "/models/x" && mount.isWritable)
        #expect(try BucketMount("s=/m/").path == "/m" && !BucketMount("s=/m:ro").isWritable)
    }

    @Test(arguments: [
        "", "s", "s=", "s=m", "=/m", "s=/", "s=/a/../b", "s=/a//b", "s=/proc", "s=/dev/x", "s=/runpod-volume", "a/b=/m", "s=/a,b",
    ])
    func refuses(_ text: String) { #expect(throws: RoostError.self) { try BucketMount(text) } }
}
