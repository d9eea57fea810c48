/// `If-Match` and its kin, as RFC 9110 orders them.
package struct Preconditions: Sendable, Equatable {
    package enum Outcome: Sendable, Equatable {
        case proceed, notModified, failed
    }

    package var ifMatch: String?
    package var ifNoneMatch: String?
    package var ifModifiedSince: Int64?
    package var ifUnmodifiedSince: Int64?

    /// With `prefix` `x-amz-copy-source-`, those of a copy's source.
    package init(_ head: RequestHead, prefix: String = "") {
        ifMatch = head.header(prefix + "if-match")
        ifNoneMatch = head.header(prefix + "if-none-match")
        ifModifiedSince = head.header(prefix + "if-modified-since").flatMap(HTTPDate.parse)
        ifUnmodifiedSince = head.header(prefix + "if-unmodified-since").flatMap(HTTPDate.parse)
    }

    package var isEmpty: Bool { ifMatch == nil && ifNoneMatch == nil && ifModifiedSince == nil && ifUnmodifiedSince == nil }

    /// Whether no object may be there.
    package var wantsNone: Bool { ifNoneMatch.map { Self.list($0).contains("*") } ?? false }

    /// For reading an object that is there.
    package func forReading(etag: String, modified: Int64) -> Outcome {
        if let ifMatch {
            guard Self.matches(ifMatch, etag) else { return .failed }
        } else if let ifUnmodifiedSince, modified > ifUnmodifiedSince {
            return .failed
        }
        if let ifNoneMatch {
            if Self.matches(ifNoneMatch, etag) { return .notModified }
        } else if let ifModifiedSince, modified <= ifModifiedSince {
            return .notModified
        }
        return .proceed
    }

    /// For replacing what is there, or nothing. Throws what the client is to hear.
    package func checkWriting(over etag: String?) throws(S3Error) {
        if let ifMatch {
            guard let etag else { throw S3Error(.noSuchKey, "If-Match: there is no such object") }
            guard Self.matches(ifMatch, etag) else { throw S3Error(.preconditionFailed, "If-Match: the object's ETag is \"\(etag)\"") }
        }
        if let ifNoneMatch, let etag, Self.matches(ifNoneMatch, etag) {
            throw S3Error(.preconditionFailed, "If-None-Match: the object is there, with the ETag \"\(etag)\"")
        }
    }

    static func matches(_ header: String, _ etag: String) -> Bool { list(header).contains { $0 == "*" || $0 == etag } }

    private static func list(_ header: String) -> [String] {
        header.split(separator: ",").map { item in
            var text = item.drop { $0 == " " }
            while text.last == " " { text.removeLast() }
            if text.hasPrefix("W/") { text = text.dropFirst(2) }
            if text.count >= 2, text.hasPrefix("\""), text.hasSuffix("\"") { text = text.dropFirst().dropLast() }
            return String(text)
        }
    }
}
