import Resource

/// Reads the body of `job-done` piece by piece and gives out the bytes of its `output`, so that an output of any size never
/// lies in memory as a whole. The other members are small and kept.
///
/// It checks the structure, not every rule of JSON: what the worker's encoder wrote inside `output` is the client's to
/// read. Python's `NaN` and `Infinity` become `null`, as in outputs that are kept inline.
package struct OutputScanner {
    package struct Malformed: Error {}

    private enum Place { case start, beforeKey, key, afterKey, beforeValue, value, afterValue, end }

    private var place = Place.start
    private var key: [UInt8] = []
    private var isOutput = false
    /// Opened brackets of the value.
    private var nesting: [UInt8] = []
    private var isInString = false
    private var isEscaped = false
    /// A number or a word, until its end is seen.
    private var word: [UInt8] = []
    private var current: [UInt8] = []
    /// Members other than `output`, as raw JSON.
    package private(set) var members: [String: [UInt8]] = [:]
    package private(set) var hasOutput = false

    private static let keptBytes = 1 << 20
    private static let deepest = 512

    package init() {}

    /// Whether the object has ended.
    package var isComplete: Bool { place == .end }

    /// Takes a piece of the body; returns the bytes of the output in it.
    package mutating func feed(_ bytes: UnsafeRawBufferPointer) throws(Malformed) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count)
        var at = 0
        while at < bytes.count {
            // Most of a large output is the inside of long strings.
            if place == .value, isOutput, isInString, !isEscaped {
                let end = Self.endOfPlainText(bytes, from: at)
                out.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[at..<end]))
                at = end
                if at == bytes.count { break }
            }
            try step(bytes[at], &out)
            at += 1
        }
        return out
    }

    /// Where the next quote or backslash is, or the end: 32 bytes at a look.
    private static func endOfPlainText(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int {
        let (quote, backslash) = (SIMD32(repeating: UInt8(ascii: "\"")), SIMD32(repeating: UInt8(ascii: "\\")))
        var at = start
        while at + 32 <= bytes.count {
            let block = bytes.loadUnaligned(fromByteOffset: at, as: SIMD32<UInt8>.self)
            if any((block .== quote) .| (block .== backslash)) { break }
            at += 32
        }
        while at < bytes.count, bytes[at] != UInt8(ascii: "\""), bytes[at] != UInt8(ascii: "\\") { at += 1 }
        return at
    }

    private mutating func step(_ byte: UInt8, _ out: inout [UInt8]) throws(Malformed) {
        switch place {
        case .value: try value(byte, &out)
        case .key: try key(byte)
        default: try between(byte, &out)
        }
    }

    /// Outside keys and values.
    private mutating func between(_ byte: UInt8, _ out: inout [UInt8]) throws(Malformed) {
        if Self.isSpace(byte) { return }
        switch (place, byte) {
        case (.start, UInt8(ascii: "{")): place = .beforeKey
        case (.beforeKey, UInt8(ascii: "\"")): (place, key) = (.key, [])
        case (.beforeKey, UInt8(ascii: "}")) where members.isEmpty && !hasOutput: place = .end
        case (.afterKey, UInt8(ascii: ":")): try beginValue()
        case (.beforeValue, _):
            place = .value
            try value(byte, &out)
        case (.afterValue, UInt8(ascii: ",")): place = .beforeKey
        case (.afterValue, UInt8(ascii: "}")): place = .end
        default: throw Malformed()
        }
    }

    private mutating func key(_ byte: UInt8) throws(Malformed) {
        if !isEscaped, byte == UInt8(ascii: "\"") {
            place = .afterKey
            return
        }
        isEscaped = !isEscaped && byte == UInt8(ascii: "\\")
        guard key.count < 1_024 else { throw Malformed() }
        key.append(byte)
    }

    private mutating func beginValue() throws(Malformed) {
        isOutput = key == Array("output".utf8)
        guard !isOutput || !hasOutput else { throw Malformed() }
        if isOutput { hasOutput = true }
        (place, current, word, nesting) = (.beforeValue, [], [], [])
    }

    private mutating func value(_ byte: UInt8, _ out: inout [UInt8]) throws(Malformed) {
        if isInString {
            try emit(byte, &out)
            if isEscaped {
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                isInString = false
                endIfWhole()
            }
            return
        }
        if Self.isWord(byte) {
            guard word.count < 4_096 else { throw Malformed() }
            return word.append(byte)
        }
        let wasWord = !word.isEmpty
        try flushWord(&out)
        if wasWord, nesting.isEmpty {
            endValue()
            return try between(byte, &out)
        }
        try structure(byte, &out)
    }

    private mutating func structure(_ byte: UInt8, _ out: inout [UInt8]) throws(Malformed) {
        switch byte {
        case UInt8(ascii: "\""): isInString = true
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            guard nesting.count < Self.deepest else { throw Malformed() }
            nesting.append(byte == UInt8(ascii: "{") ? UInt8(ascii: "}") : UInt8(ascii: "]"))
        case UInt8(ascii: "}"), UInt8(ascii: "]"): guard nesting.popLast() == byte else { throw Malformed() }
        case UInt8(ascii: ","), UInt8(ascii: ":"): guard !nesting.isEmpty else { throw Malformed() }
        default: guard Self.isSpace(byte), !nesting.isEmpty else { throw Malformed() }
        }
        try emit(byte, &out)
        if byte == UInt8(ascii: "}") || byte == UInt8(ascii: "]") { endIfWhole() }
    }

    private mutating func flushWord(_ out: inout [UInt8]) throws(Malformed) {
        guard !word.isEmpty else { return }
        let isFinite = !word.contains(UInt8(ascii: "N")) && !word.contains(UInt8(ascii: "I"))
        for byte in isFinite ? word : Array("null".utf8) { try emit(byte, &out) }
        word = []
    }

    private mutating func emit(_ byte: UInt8, _ out: inout [UInt8]) throws(Malformed) {
        if isOutput { return out.append(byte) }
        guard current.count < Self.keptBytes else { throw Malformed() }
        current.append(byte)
    }

    private mutating func endIfWhole() { if nesting.isEmpty { endValue() } }

    private mutating func endValue() {
        place = .afterValue
        if !isOutput { members[String(decoding: key, as: UTF8.self)] = current }
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

    /// Letters, digits, signs and dots: what numbers, `true`, `false`, `null` and `NaN` are made of.
    private static func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."):
            true
        default: false
        }
    }
}
