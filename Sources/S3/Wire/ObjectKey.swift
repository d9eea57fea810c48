/// A key as the path it is beneath a volume. What could mean another path is refused, never normalised.
package struct ObjectKey: Sendable, Hashable {
    package static let maximumBytes = 1_024
    package static let maximumSegmentBytes = 255

    /// The key as the client wrote it, decoded once.
    package let text: String

    /// Refuses what is no path of its own: empty, leading `/`, empty segments, `.` and `..`, NUL, too long, not UTF-8.
    package init(_ bytes: [UInt8]) throws(S3Error) {
        guard bytes.count <= Self.maximumBytes else {
            throw S3Error(.keyTooLong, "the key has \(bytes.count) bytes, more than \(Self.maximumBytes)")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw S3Error(.invalidArgument, "the key is not UTF-8") }
        guard !bytes.isEmpty, !bytes.contains(0) else { throw S3Error(.invalidArgument, "the key is empty or holds a NUL") }
        let slash = UInt8(ascii: "/")
        // One slash at the end names a directory.
        let path = bytes.last == slash ? bytes.dropLast() : bytes[...]
        for segment in path.split(separator: slash, omittingEmptySubsequences: false) {
            guard !segment.isEmpty, !segment.elementsEqual(".".utf8), !segment.elementsEqual("..".utf8) else {
                throw S3Error(.invalidArgument, "the key has an empty segment, '.' or '..' in it: it cannot be a path")
            }
            guard segment.count <= Self.maximumSegmentBytes else {
                throw S3Error(.keyTooLong, "a segment of the key has more than \(Self.maximumSegmentBytes) bytes")
            }
        }
        self.text = text
    }

    package var isDirectory: Bool { text.hasSuffix("/") }

    /// Beneath the volume, without the slash that marks a directory.
    package var path: String { isDirectory ? String(text.dropLast()) : text }

    package var segments: [Substring] { path.split(separator: "/") }
}
