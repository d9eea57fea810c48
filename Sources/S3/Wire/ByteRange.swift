/// The one range of a `Range: bytes=…` header, against a size.
package struct ByteRange: Sendable, Equatable {
    package var offset: Int64
    package var length: Int64

    package init(offset: Int64, length: Int64) {
        self.offset = offset
        self.length = length
    }

    /// Nil when the whole object is meant: no header, a unit or a form that is not known, or several ranges, which S3
    /// does not serve. Throws when the range lies outside the object.
    package static func parse(_ header: String?, size: Int64) throws(S3Error) -> ByteRange? {
        guard let header, header.hasPrefix("bytes=") else { return nil }
        let parts = header.dropFirst("bytes=".count).split(separator: "-", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2 else { return nil }
        let unsatisfiable = S3Error(.invalidRange, "the range \(header.prefix(80)) lies outside the object's \(size) bytes")
        if parts[0].isEmpty {
            guard let count = HTTPHead.number(parts[1]) else { return nil }
            guard count > 0, size > 0 else { throw unsatisfiable }
            let length = min(Int64(count), size)
            return ByteRange(offset: size - length, length: length)
        }
        guard let first = HTTPHead.number(parts[0]).map(Int64.init) else { return nil }
        guard let last = parts[1].isEmpty ? Int64.max : HTTPHead.number(parts[1]).map(Int64.init) else { return nil }
        guard first <= last else { return nil }
        guard first < size else { throw unsatisfiable }
        return ByteRange(offset: first, length: min(last, size - 1) - first + 1)
    }

    /// `x-amz-copy-source-range`: both ends named, and inside the object.
    package static func copySource(_ header: String?, size: Int64) throws(S3Error) -> ByteRange {
        guard let header else { return ByteRange(offset: 0, length: size) }
        let parts = header.dropFirst("bytes=".count).split(separator: "-", omittingEmptySubsequences: false).map(String.init)
        guard header.hasPrefix("bytes="), parts.count == 2, let first = HTTPHead.number(parts[0]), let last = HTTPHead.number(parts[1]),
            first <= last
        else { throw S3Error(.invalidArgument, "x-amz-copy-source-range must be bytes=FIRST-LAST") }
        guard last < size else { throw S3Error(.invalidRange, "the range \(header.prefix(80)) lies outside the source's \(size) bytes") }
        return ByteRange(offset: Int64(first), length: Int64(last - first + 1))
    }
}
