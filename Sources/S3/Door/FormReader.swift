/// Reads `multipart/form-data` (RFC 7578): small fields first, then one file, which is streamed.
struct FormReader {
    private let body: BodyReader
    /// `--BOUNDARY`, and the same with the CR LF that belongs to it.
    private let opening: [UInt8]
    private let delimiter: [UInt8]
    private var buffer: [UInt8] = []
    private var isEnded = false

    static let maximumFields = 64 << 10

    init(_ head: RequestHead, _ body: BodyReader) throws(S3Error) {
        self.body = body
        let parts = (head.header("content-type") ?? "").split(separator: ";").map { $0.drop { $0 == " " } }
        guard let parameter = parts.first(where: { $0.lowercased().hasPrefix("boundary=") }) else {
            throw Self.malformed("its Content-Type has no boundary")
        }
        let boundary = parameter.dropFirst("boundary=".count).filter { $0 != "\"" }
        guard (1...70).contains(boundary.utf8.count) else { throw Self.malformed("its boundary has not 1 to 70 characters") }
        opening = Array("--\(boundary)".utf8)
        delimiter = Array("\r\n--\(boundary)".utf8)
    }

    static func malformed(_ why: String) -> S3Error { S3Error(.malformedPOSTRequest, "the form is malformed: \(why)") }

    /// All fields before the file, names in lower case; then the stream stands at the file's first byte.
    mutating func fields() throws -> (fields: [String: String], filename: String) {
        var fields: [String: String] = [:]
        while buffer.count < opening.count + 2 { guard try fill() else { throw Self.malformed("it is empty") } }
        guard buffer.starts(with: opening) else { throw Self.malformed("it does not begin with its boundary") }
        buffer.removeFirst(opening.count)
        while true {
            let headers = try take(through: Array("\r\n\r\n".utf8))
            guard let name = Self.parameter("name", headers) else { throw Self.malformed("a part has no name") }
            if name.lowercased() == "file" { return (fields, Self.parameter("filename", headers) ?? "") }
            fields[name.lowercased()] = try take(through: delimiter)
        }
    }

    /// Streams the file up to its closing boundary.
    mutating func file(_ sink: (UnsafeRawBufferPointer) throws -> Void) throws {
        while true {
            if let range = buffer.firstRange(of: delimiter) {
                try buffer[..<range.lowerBound].withUnsafeBytes(sink)
                buffer.removeSubrange(..<range.upperBound)
                return try end()
            }
            // What could be the beginning of the boundary waits for more.
            let safe = max(0, buffer.count - delimiter.count)
            try buffer[..<safe].withUnsafeBytes(sink)
            buffer.removeSubrange(..<safe)
            guard try fill() else { throw Self.malformed("it ends inside the file") }
        }
    }

    private mutating func end() throws {
        while buffer.count < 2 { guard try fill() else { throw Self.malformed("it does not end with its boundary") } }
        guard buffer.starts(with: "--".utf8) else { throw Self.malformed("something follows the file, which must be last") }
        while try fill() { if buffer.count > Self.maximumFields { throw Self.malformed("too much follows the file") } }
    }

    /// The text before `end`, which is stepped over. Fields are bounded together.
    private mutating func take(through end: [UInt8]) throws -> String {
        while true {
            if let range = buffer.firstRange(of: end) {
                defer { buffer.removeSubrange(..<range.upperBound) }
                guard let text = String(validating: buffer[..<range.lowerBound], as: UTF8.self) else {
                    throw Self.malformed("a field is not UTF-8")
                }
                return text
            }
            guard buffer.count < Self.maximumFields else { throw Self.malformed("a field is over \(Self.maximumFields) bytes") }
            guard try fill() else { throw Self.malformed("it ends before its file") }
        }
    }

    private mutating func fill() throws -> Bool {
        let begin = buffer.count
        buffer.append(contentsOf: repeatElement(0, count: 64 << 10))
        let body = body
        let count = try buffer.withUnsafeMutableBytes { raw in
            try body.read(UnsafeMutableRawBufferPointer(rebasing: raw[begin...]))
        }
        buffer.removeLast(buffer.count - begin - count)
        return count > 0
    }

    /// `name="…"` in a part's Content-Disposition.
    private static func parameter(_ name: String, _ headers: String) -> String? {
        guard let range = headers.firstRange(of: " \(name)=\"") else { return nil }
        let rest = headers[range.upperBound...]
        return rest.firstIndex(of: "\"").map { String(rest[..<$0]) }
    }
}
