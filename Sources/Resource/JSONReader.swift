/// Reads JSON (RFC 8259) that a client sent: every byte is checked, depth is bounded, nothing traps.
///
/// Two ways to read: `parse` builds a tree; `members` only checks the text and returns where the members of the
/// top-level object lie, so that large inputs and outputs pass through as the bytes they came in.
package struct JSONReader {
    /// What is wrong with the text, and where.
    package struct Failure: Error, Equatable, CustomStringConvertible {
        package var offset: Int
        package var problem: String

        package var description: String { "malformed JSON at byte \(offset): \(problem)" }
    }

    /// A member of the top-level object, with the range of its value's bytes.
    package struct RawMember: Sendable {
        package var key: String
        package var value: Range<Int>
    }

    /// Nesting deeper than this is refused.
    package static let maximumDepth = 256

    private let bytes: UnsafeBufferPointer<UInt8>
    private var at = 0
    private let allowsNonFinite: Bool
    private var nonFinite: [Range<Int>] = []

    private init(_ bytes: UnsafeBufferPointer<UInt8>, allowsNonFinite: Bool) {
        self.bytes = bytes
        self.allowsNonFinite = allowsNonFinite
    }

    /// Builds the tree of one JSON text.
    package static func parse(_ bytes: [UInt8]) throws(Failure) -> JSON {
        try read(bytes, allowsNonFinite: false) { (reader: inout JSONReader) throws(Failure) in
            let value = try reader.value(depth: 0)
            try reader.end()
            return value
        }
    }

    package static func parse(_ text: String) throws(Failure) -> JSON { try parse(Array(text.utf8)) }

    /// Checks one JSON text whose top level is an object and returns its members.
    package static func members(of bytes: [UInt8]) throws(Failure) -> [RawMember] {
        try read(bytes, allowsNonFinite: false) { (reader: inout JSONReader) throws(Failure) in try reader.topLevel() }
    }

    /// Python's `json` writes `NaN` and `Infinity`, which are not JSON. Replaces them by `null`, and returns the
    /// members of the top-level object of the text that results.
    package static func lenientMembers(of bytes: inout [UInt8]) throws(Failure) -> [RawMember] {
        let (members, tokens) = try read(bytes, allowsNonFinite: true) { (reader: inout JSONReader) throws(Failure) in
            (try reader.topLevel(), reader.nonFinite)
        }
        guard !tokens.isEmpty else { return members }
        var clean: [UInt8] = []
        clean.reserveCapacity(bytes.count)
        var from = 0
        for token in tokens {
            clean += bytes[from..<token.lowerBound]
            clean += "null".utf8
            from = token.upperBound
        }
        clean += bytes[from...]
        bytes = clean
        return try self.members(of: clean)
    }

    private static func read<Value>(
        _ bytes: [UInt8], allowsNonFinite: Bool, _ body: (inout JSONReader) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        var outcome: Result<Value, Failure>?
        bytes.withUnsafeBufferPointer { buffer in
            var reader = JSONReader(buffer, allowsNonFinite: allowsNonFinite)
            do throws(Failure) { outcome = .success(try body(&reader)) } catch { outcome = .failure(error) }
        }
        guard let outcome else { throw Failure(offset: 0, problem: "unreadable") }
        return try outcome.get()
    }

    // MARK: - Grammar

    private mutating func topLevel() throws(Failure) -> [RawMember] {
        var members: [RawMember] = []
        skipSpace()
        guard take("{") else { throw failure("expected an object") }
        skipSpace()
        if !take("}") {
            repeat {
                skipSpace()
                let key = try string()
                skipSpace()
                guard take(":") else { throw failure("expected ':'") }
                skipSpace()
                let start = at
                try skip(depth: 1)
                members.append(RawMember(key: key, value: start..<at))
                skipSpace()
            } while take(",")
            guard take("}") else { throw failure("expected ',' or '}'") }
        }
        try end()
        return members
    }

    private mutating func value(depth: Int) throws(Failure) -> JSON {
        guard depth < Self.maximumDepth else { throw failure("nested deeper than \(Self.maximumDepth)") }
        skipSpace()
        switch peek {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): try word("true"); return .bool(true)
        case UInt8(ascii: "f"): try word("false"); return .bool(false)
        case UInt8(ascii: "n"): try word("null"); return .null
        default:
            let start = at
            try number()
            return .number(String(decoding: slice(start..<at), as: UTF8.self))
        }
    }

    private mutating func object(depth: Int) throws(Failure) -> JSON {
        at += 1
        var members: [JSON.Member] = []
        skipSpace()
        if take("}") { return .object(members) }
        repeat {
            skipSpace()
            let key = try string()
            skipSpace()
            guard take(":") else { throw failure("expected ':'") }
            members.append(JSON.Member(key, try value(depth: depth + 1)))
            skipSpace()
        } while take(",")
        guard take("}") else { throw failure("expected ',' or '}'") }
        return .object(members)
    }

    private mutating func array(depth: Int) throws(Failure) -> JSON {
        at += 1
        var values: [JSON] = []
        skipSpace()
        if take("]") { return .array(values) }
        repeat {
            values.append(try value(depth: depth + 1))
            skipSpace()
        } while take(",")
        guard take("]") else { throw failure("expected ',' or ']'") }
        return .array(values)
    }

    /// Checks one value and steps over it.
    private mutating func skip(depth: Int) throws(Failure) {
        guard depth < Self.maximumDepth else { throw failure("nested deeper than \(Self.maximumDepth)") }
        skipSpace()
        switch peek {
        case UInt8(ascii: "{"):
            at += 1
            skipSpace()
            if take("}") { return }
            repeat {
                skipSpace()
                _ = try stringRange()
                skipSpace()
                guard take(":") else { throw failure("expected ':'") }
                try skip(depth: depth + 1)
                skipSpace()
            } while take(",")
            guard take("}") else { throw failure("expected ',' or '}'") }
        case UInt8(ascii: "["):
            at += 1
            skipSpace()
            if take("]") { return }
            repeat {
                try skip(depth: depth + 1)
                skipSpace()
            } while take(",")
            guard take("]") else { throw failure("expected ',' or ']'") }
        case UInt8(ascii: "\""): _ = try stringRange()
        case UInt8(ascii: "t"): try word("true")
        case UInt8(ascii: "f"): try word("false")
        case UInt8(ascii: "n"): try word("null")
        default: try number()
        }
    }

    private mutating func number() throws(Failure) {
        let start = at
        if peek == UInt8(ascii: "N") || peek == UInt8(ascii: "I") { return try nonFiniteWord(from: start) }
        if take("-"), peek == UInt8(ascii: "I") { return try nonFiniteWord(from: start) }
        guard let first = peek, isDigit(first) else { throw failure("expected a value") }
        at += 1
        if first != UInt8(ascii: "0") { skipDigits() }
        if take(".") {
            guard skipDigits() > 0 else { throw failure("expected a digit") }
        }
        if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
            at += 1
            if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { at += 1 }
            guard skipDigits() > 0 else { throw failure("expected a digit") }
        }
    }

    private mutating func nonFiniteWord(from start: Int) throws(Failure) {
        guard allowsNonFinite else { throw failure("NaN and Infinity are not JSON") }
        try word(peek == UInt8(ascii: "N") ? "NaN" : "Infinity")
        nonFinite.append(start..<at)
    }

    /// The raw range of a string without its quotes, its bytes and escapes checked.
    private mutating func stringRange() throws(Failure) -> (range: Range<Int>, isPlain: Bool) {
        guard take("\"") else { throw failure("expected a string") }
        let start = at
        var isPlain = true
        while let byte = peek {
            switch byte {
            case UInt8(ascii: "\""):
                at += 1
                return (start..<(at - 1), isPlain)
            case UInt8(ascii: "\\"):
                isPlain = false
                at += 1
                try escape()
            case 0..<0x20: throw failure("control character in a string")
            case 0x20..<0x80: at += 1
            default: try multibyte(lead: byte)
            }
        }
        throw failure("unterminated string")
    }

    private mutating func escape() throws(Failure) {
        guard let byte = peek else { throw failure("unterminated string") }
        at += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            return
        case UInt8(ascii: "u"): _ = try hex4()
        default: throw failure("unknown escape")
        }
    }

    /// One UTF-8 sequence of two to four bytes (RFC 3629): no overlong forms, no surrogates.
    private mutating func multibyte(lead: UInt8) throws(Failure) {
        let length: Int
        var low: UInt8 = 0x80
        var high: UInt8 = 0xBF
        switch lead {
        case 0xC2...0xDF: length = 2
        case 0xE0: (length, low) = (3, 0xA0)
        case 0xED: (length, high) = (3, 0x9F)
        case 0xE1...0xEF: length = 3
        case 0xF0: (length, low) = (4, 0x90)
        case 0xF4: (length, high) = (4, 0x8F)
        case 0xF1...0xF3: length = 4
        default: throw failure("invalid UTF-8")
        }
        guard at + length <= bytes.count, (low...high).contains(bytes[at + 1]) else { throw failure("invalid UTF-8") }
        for offset in 2..<max(length, 2) where bytes[at + offset] & 0xC0 != 0x80 { throw failure("invalid UTF-8") }
        at += length
    }

    private mutating func string() throws(Failure) -> String {
        let (range, isPlain) = try stringRange()
        if isPlain { return String(decoding: slice(range), as: UTF8.self) }
        return try unescape(range)
    }

    private mutating func unescape(_ range: Range<Int>) throws(Failure) -> String {
        let after = at
        defer { at = after }
        at = range.lowerBound
        var out: [UInt8] = []
        while at < range.upperBound, let byte = peek {
            at += 1
            guard byte == UInt8(ascii: "\\") else {
                out.append(byte)
                continue
            }
            guard let kind = peek else { break }
            at += 1
            switch kind {
            case UInt8(ascii: "b"): out.append(0x08)
            case UInt8(ascii: "f"): out.append(0x0C)
            case UInt8(ascii: "n"): out.append(0x0A)
            case UInt8(ascii: "r"): out.append(0x0D)
            case UInt8(ascii: "t"): out.append(0x09)
            case UInt8(ascii: "u"): out += String(Character(try unicodeEscape(end: range.upperBound))).utf8
            default: out.append(kind)
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// A lone surrogate becomes U+FFFD: Python writes them, and a key or text with one is not worth a refusal.
    private mutating func unicodeEscape(end: Int) throws(Failure) -> Unicode.Scalar {
        let first = try hex4()
        guard first & 0xFC00 == 0xD800 else { return Unicode.Scalar(first) ?? "\u{FFFD}" }
        let before = at
        if at + 6 <= end, take("\\"), take("u") {
            let second = try hex4()
            if second & 0xFC00 == 0xDC00 {
                return Unicode.Scalar(0x10000 + ((first & 0x3FF) << 10) + (second & 0x3FF)) ?? "\u{FFFD}"
            }
        }
        at = before
        return "\u{FFFD}"
    }

    private mutating func hex4() throws(Failure) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = peek else { throw failure("unterminated escape") }
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt32(byte - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt32(byte - UInt8(ascii: "a") + 10)
            case UInt8(ascii: "A")...UInt8(ascii: "F"): value = value << 4 | UInt32(byte - UInt8(ascii: "A") + 10)
            default: throw failure("expected four hexadecimal digits")
            }
            at += 1
        }
        return value
    }

    // MARK: - Bytes

    private var peek: UInt8? { at < bytes.count ? bytes[at] : nil }

    private func slice(_ range: Range<Int>) -> Slice<UnsafeBufferPointer<UInt8>> { bytes[range] }

    private func failure(_ problem: String) -> Failure { Failure(offset: at, problem: problem) }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard peek == UInt8(ascii: character) else { return false }
        at += 1
        return true
    }

    private mutating func word(_ text: StaticString) throws(Failure) {
        let count = text.utf8CodeUnitCount
        guard at + count <= bytes.count else { throw failure("expected a value") }
        for offset in 0..<count where bytes[at + offset] != text.utf8Start[offset] { throw failure("expected a value") }
        at += count
    }

    private mutating func skipSpace() {
        while at < bytes.count {
            switch bytes[at] {
            case 0x20, 0x09, 0x0A, 0x0D: at += 1
            default: return
            }
        }
    }

    @discardableResult
    private mutating func skipDigits() -> Int {
        let start = at
        while let byte = peek, isDigit(byte) { at += 1 }
        return at - start
    }

    private func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    private mutating func end() throws(Failure) {
        skipSpace()
        guard at == bytes.count else { throw failure("something follows the value") }
    }
}
