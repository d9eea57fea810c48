/// An HTTP/1 request head with what its framing says: RFC 9112, read strictly, because a lenient reading is how one
/// request smuggles another.
package struct HTTPHead: Sendable {
    package enum Framing: Sendable, Equatable {
        case none
        case length(Int)
        case chunked
    }

    package var request: RequestHead
    package var framing: Framing
    package var keepsAlive: Bool
    package var expectsContinue: Bool

    /// A longer head is refused. Presigned URLs with tokens reach a few KiB.
    package static let maximumBytes = 32 << 10
    static let maximumHeaders = 200

    /// Where the head in `bytes` ends, if all of it has come: the index after the empty line.
    package static func end(of bytes: ArraySlice<UInt8>) -> Int? {
        bytes.withUnsafeBufferPointer { buffer in
            var index = 3
            while index < buffer.count {
                // The fourth of CR LF CR LF: skip as far as the byte here allows.
                switch buffer[index] {
                case 0x0A:
                    if buffer[index - 1] == 0x0D, buffer[index - 2] == 0x0A, buffer[index - 3] == 0x0D {
                        return bytes.startIndex + index + 1
                    }
                    index += 2
                case 0x0D: index += 1
                default: index += 4
                }
            }
            return nil
        }
    }

    /// Parses a head that ends with its empty line.
    package init(_ bytes: ArraySlice<UInt8>) throws(S3Error) {
        guard let text = String(validating: bytes.dropLast(4), as: UTF8.self) else { throw Self.malformed("it is not UTF-8") }
        let pieces = text.utf8.split(separator: 0x0A, omittingEmptySubsequences: false)
        guard pieces.dropLast().allSatisfy({ $0.last == 0x0D }) else { throw Self.malformed("a line does not end with CR LF") }
        var lines = pieces.map { $0.last == 0x0D ? $0.dropLast() : $0 }[...]
        guard let first = lines.popFirst() else { throw Self.malformed("it is empty") }
        let words = first.split(separator: 0x20, omittingEmptySubsequences: false).map { String(Substring($0)) }
        guard words.count == 3, !words[0].isEmpty, words[0].utf8.allSatisfy(Self.isToken) else {
            throw Self.malformed("its first line is not METHOD TARGET VERSION")
        }
        guard words[2] == "HTTP/1.1" || words[2] == "HTTP/1.0" else { throw Self.malformed("its version is not HTTP/1.1") }
        guard lines.count <= Self.maximumHeaders else { throw Self.malformed("it has over \(Self.maximumHeaders) headers") }
        var headers: [(name: String, value: String)] = []
        for line in lines { headers.append(try Self.header(line)) }
        request = try RequestHead(method: words[0], target: Self.target(words[1]), headers: headers)
        guard headers.filter({ $0.name == "host" }).count == 1 else { throw Self.malformed("it must have one Host") }
        framing = try Self.framing(request)
        let connection = request.header("connection")?.lowercased() ?? ""
        keepsAlive = words[2] == "HTTP/1.1" ? !connection.contains("close") : connection.contains("keep-alive")
        expectsContinue = request.header("expect")?.lowercased() == "100-continue"
    }

    private static func malformed(_ why: String) -> S3Error { S3Error(.invalidRequest, "the request's head is malformed: \(why)") }

    private static func header(_ line: Substring.UTF8View) throws(S3Error) -> (name: String, value: String) {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon != line.startIndex, line[..<colon].allSatisfy(isToken) else {
            throw malformed("a header is not NAME: VALUE")
        }
        var value = line[line.index(after: colon)...]
        while let byte = value.first, byte == 0x20 || byte == 0x09 { value.removeFirst() }
        while let byte = value.last, byte == 0x20 || byte == 0x09 { value.removeLast() }
        guard value.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
            throw malformed("a header's value has control characters")
        }
        return (String(decoding: line[..<colon], as: UTF8.self).lowercased(), String(decoding: value, as: UTF8.self))
    }

    /// Origin form; the absolute form that proxies use is cut down to it.
    private static func target(_ text: String) throws(S3Error) -> String {
        if text.hasPrefix("/") || text == "*" {
            guard text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F }) else { throw malformed("its target has control characters") }
            return text
        }
        for scheme in ["http://", "https://"] where text.lowercased().hasPrefix(scheme) {
            let rest = text.dropFirst(scheme.count)
            return rest.firstIndex(of: "/").map { String(rest[$0...]) } ?? "/"
        }
        throw malformed("its target is not a path")
    }

    private static func framing(_ request: RequestHead) throws(S3Error) -> Framing {
        let lengths = request.headers.filter { $0.name == "content-length" }.map(\.value)
        if let coding = request.header("transfer-encoding") {
            guard coding.lowercased() == "chunked", lengths.isEmpty else {
                throw malformed("Transfer-Encoding must be chunked, and without Content-Length")
            }
            return .chunked
        }
        guard let first = lengths.first else { return .none }
        guard lengths.allSatisfy({ $0 == first }), let length = number(first) else { throw malformed("Content-Length is not a length") }
        return .length(length)
    }

    /// Digits alone, no sign, at most 16 of them: about what an exabyte needs, and far from overflow.
    static func number(_ text: String) -> Int? {
        guard (1...16).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return Int(text)
    }

    private static func isToken(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"), UInt8(ascii: "'"),
            UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "^"), UInt8(ascii: "_"),
            UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
            true
        default: false
        }
    }
}
