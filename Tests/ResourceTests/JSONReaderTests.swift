import Resource
import Testing

@Suite struct JSONReaderTests {
    @Test(arguments: [
        "null", "true", "[1,2.5,-3e10]", #"{"a":{"b":[]},"c":"d"}"#, #""\u00e9\n""#, "0", "-0.0", #"{"":null}"#,
    ])
    func whatIsValidComesBackEqual(text: String) throws {
        let value = try JSONReader.parse(text)
        #expect(try JSONReader.parse(value.text) == value)
        #expect(try JSONReader.parse(value.pretty) == value)
    }

    @Test(arguments: [
        "", " ", "nul", "01", "1.", "1e", "+1", "[1,]", "[1 2]", "{\"a\"}", "{\"a\":}", "{a:1}", "\"", "\"\\x\"", "\"\\u12\"",
        "\"\u{1}\"", "1 1", "NaN", "Infinity", "-Infinity", "[", "{\"a\":1", "'a'", "tru", "\u{FEFF}1",
    ])
    func whatIsNotJSONIsRefused(text: String) {
        #expect(throws: JSONReader.Failure.self) { try JSONReader.parse(text) }
        #expect(throws: JSONReader.Failure.self) { try JSONReader.members(of: Array(text.utf8)) }
    }

    @Test(
        arguments: [
            [0xFF], [0xC0, 0x80], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xC3], [0xE2, 0x82],
            [0xF0, 0x9F, 0x98],
        ] as [[UInt8]])
    func invalidUTF8IsRefused(bytes: [UInt8]) {
        let text = [UInt8(ascii: "\"")] + bytes + [UInt8(ascii: "\"")]
        #expect(throws: JSONReader.Failure.self) { try JSONReader.parse(text) }
    }

    @Test func nestingIsBounded() throws {
        let deep = { (count: Int) in String(repeating: "[", count: count) + String(repeating: "]", count: count) }
        _ = try JSONReader.parse(deep(JSONReader.maximumDepth))
        #expect(throws: JSONReader.Failure.self) { try JSONReader.parse(deep(JSONReader.maximumDepth + 1)) }
    }

    @Test func surrogatesJoinAndLoneOnesAreReplaced() throws {
        #expect(try JSONReader.parse(#""\ud83d\ude00""#) == "😀")
        #expect(try JSONReader.parse(#""\ud83dx""#) == "\u{FFFD}x")
    }

    @Test func membersAreTheBytesTheyCameIn() throws {
        let bytes = Array(#"{"input": {"n": 1.50, "k": "\u0041"}, "b":[ ]}"#.utf8)
        let members = try JSONReader.members(of: bytes)
        #expect(members.map(\.key) == ["input", "b"])
        #expect(String(decoding: bytes[members[0].value], as: UTF8.self) == #"{"n": 1.50, "k": "\u0041"}"#)
    }

    @Test func pythonsNumbersBecomeNull() throws {
        var bytes = Array(#"{"output":[NaN,-Infinity,Infinity,1],"s":"NaN"}"#.utf8)
        let members = try JSONReader.lenientMembers(of: &bytes)
        #expect(String(decoding: bytes[members[0].value], as: UTF8.self) == "[null,null,null,1]")
        #expect(String(decoding: bytes[members[1].value], as: UTF8.self) == "\"NaN\"")
    }

    /// Whatever the bytes: an answer, never a trap. Seeded, so a failure can be repeated.
    @Test func randomBytesNeverTrap() {
        var generator = SeededGenerator(seed: 7)
        let alphabet = Array("{}[]\",:0123456789.eE+-\\untrfalsN \u{1}\u{80}é".utf8) + [0xFF, 0xED, 0xF4]
        for _ in 0..<200_000 {
            let bytes = (0..<Int.random(in: 0..<24, using: &generator)).map { _ in alphabet.randomElement(using: &generator) ?? 0 }
            _ = try? JSONReader.parse(bytes)
            var copy = bytes
            _ = try? JSONReader.lenientMembers(of: &copy)
        }
    }
}

struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
