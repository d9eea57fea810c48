/// Takes the `aws-chunked` framing off an upload: a strict state machine that may be fed at any split.
///
/// `SIZE[;chunk-signature=HEX]CRLF DATA CRLF` …, then a chunk of size 0, trailer lines, and an empty line. It checks
/// framing and lengths; signatures are handed to the caller, who has the hashes.
package struct ChunkDecoder: Sendable {
    package enum Event: Sendable, Equatable {
        case data([UInt8])
        /// A chunk is complete. The signature it announced, in a signed stream.
        case chunkEnd(signature: String?)
        case trailer(name: String, value: String)
        case end
    }

    private enum State: Sendable {
        case header
        case data(left: Int)
        case dataEnd
        case trailer
        case done
    }

    /// A header or trailer line longer than this is refused.
    package static let maximumLine = 4_096
    package static let maximumTrailers = 16

    private let isSigned: Bool
    /// What `x-amz-decoded-content-length` announced, less what came.
    private var expected: Int
    private var state = State.header
    private var line: [UInt8] = []
    private var signature: String?
    private var isLastChunk = false
    private var trailers = 0

    package init(isSigned: Bool, decodedLength: Int) {
        self.isSigned = isSigned
        expected = decodedLength
    }

    package var isDone: Bool {
        if case .done = state { return true }
        return false
    }

    /// Decodes what came. Bytes after the end are an error.
    package mutating func feed(_ bytes: some Collection<UInt8>) throws(S3Error) -> [Event] {
        var rest = Array(bytes)[...]
        var events: [Event] = []
        while !rest.isEmpty {
            switch state {
            case .header:
                if let text = try takeLine(&rest) { try begin(text) }
            case .data(let left):
                let piece = rest.prefix(left)
                rest = rest.dropFirst(piece.count)
                events.append(.data(Array(piece)))
                state = piece.count == left ? .dataEnd : .data(left: left - piece.count)
            case .dataEnd:
                guard let text = try takeLine(&rest) else { continue }
                guard text.isEmpty else { throw Self.malformed("a chunk is longer than its size says") }
                events.append(.chunkEnd(signature: signature))
                state = .header
            case .trailer:
                if let text = try takeLine(&rest) { try trailer(text, &events) }
            case .done: throw Self.malformed("something follows the last chunk")
            }
            if isLastChunk {
                isLastChunk = false
                events.append(.chunkEnd(signature: signature))
            }
        }
        return events
    }

    /// The connection's end: an error unless the last chunk was there and the length is what was announced.
    package func finish() throws(S3Error) {
        guard isDone else { throw S3Error(.incompleteBody, "the body ended before its last chunk") }
        guard expected == 0 else {
            throw S3Error(.incompleteBody, "the body is \(expected) bytes shorter than x-amz-decoded-content-length says")
        }
    }

    private mutating func begin(_ text: String) throws(S3Error) {
        let parts = text.split(separator: ";", maxSplits: 1, omittingEmptySubsequences: false)
        guard let digits = parts.first, (1...8).contains(digits.utf8.count), digits.utf8.allSatisfy({ $0 != UInt8(ascii: "+") }),
            let size = Int(digits, radix: 16), size >= 0
        else { throw Self.malformed("a chunk's size is not one to eight hexadecimal digits") }
        signature = try parts.count > 1 ? Self.signature(parts[1]) : nil
        guard (signature != nil) == isSigned else {
            throw Self.malformed(isSigned ? "a chunk is not signed" : "a chunk of an unsigned stream is signed")
        }
        guard size <= expected else {
            throw S3Error(.incompleteBody, "the body is longer than x-amz-decoded-content-length says")
        }
        expected -= size
        if size == 0 {
            isLastChunk = true
            state = .trailer
        } else {
            state = .data(left: size)
        }
    }

    private mutating func trailer(_ text: String, _ events: inout [Event]) throws(S3Error) {
        if text.isEmpty {
            state = .done
            events.append(.end)
            return
        }
        trailers += 1
        guard trailers <= Self.maximumTrailers, let colon = text.firstIndex(of: ":"), colon != text.startIndex else {
            throw Self.malformed("a trailer is not NAME:VALUE")
        }
        let value = text[text.index(after: colon)...].drop { $0 == " " }
        events.append(.trailer(name: text[..<colon].lowercased(), value: String(value)))
    }

    private static func signature(_ text: Substring) throws(S3Error) -> String {
        let prefix = "chunk-signature="
        guard text.hasPrefix(prefix), text.utf8.count == prefix.utf8.count + 64 else {
            throw malformed("a chunk's extension is no signature")
        }
        return String(text.dropFirst(prefix.count))
    }

    /// A line without its CRLF, once it is complete. Some clients end trailers with a bare LF.
    private mutating func takeLine(_ rest: inout ArraySlice<UInt8>) throws(S3Error) -> String? {
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "\n") else {
                line.append(byte)
                guard line.count <= Self.maximumLine else { throw Self.malformed("a line is over \(Self.maximumLine) bytes") }
                continue
            }
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            defer { line = [] }
            guard let text = String(validating: line, as: UTF8.self), !line.contains(UInt8(ascii: "\r")) else {
                throw Self.malformed("a line is not text")
            }
            return text
        }
        return nil
    }

    private static func malformed(_ why: String) -> S3Error { S3Error(.invalidRequest, "the aws-chunked body is malformed: \(why)") }
}
