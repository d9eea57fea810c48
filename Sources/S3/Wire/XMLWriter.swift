/// Writes the XML that S3 answers with.
package struct XMLWriter: Sendable {
    package private(set) var bytes: [UInt8] = Array("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".utf8)

    /// Where the elements of S3's documents live.
    package static let namespace = " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

    private static let isPlain = (0..<256).map { byte in byte >= 0x20 && !"&<>\"".utf8.contains(UInt8(byte)) }

    package init() {}

    /// With room for a long document.
    package init(capacity: Int) { bytes.reserveCapacity(capacity) }

    /// Without the declaration, for a document whose beginning was sent before.
    package init(continuing: Void) { bytes = [] }

    /// An element with what `body` writes inside it.
    package mutating func element(_ name: String, attributes: String = "", _ body: (inout XMLWriter) -> Void) {
        begin(name, attributes)
        body(&self)
        end(name)
    }

    /// An element that holds text.
    package mutating func text(_ name: String, _ value: String) {
        begin(name)
        escape(value)
        end(name)
    }

    private mutating func begin(_ name: String, _ attributes: String = "") {
        bytes.append(UInt8(ascii: "<"))
        bytes += name.utf8
        bytes += attributes.utf8
        bytes.append(UInt8(ascii: ">"))
    }

    private mutating func end(_ name: String) {
        bytes += "</".utf8
        bytes += name.utf8
        bytes.append(UInt8(ascii: ">"))
    }

    /// Text inside the element that is open.
    package mutating func content(_ value: String) { escape(value) }

    /// XML 1.0 knows no control characters but three; others become U+FFFD, as a document with them is unreadable.
    private mutating func escape(_ text: String) {
        // Nearly all of a listing needs no escapes: then it is copied as it is.
        if text.utf8.allSatisfy({ Self.isPlain[Int($0)] }) {
            bytes += text.utf8
            return
        }
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "&"): bytes += "&amp;".utf8
            case UInt8(ascii: "<"): bytes += "&lt;".utf8
            case UInt8(ascii: ">"): bytes += "&gt;".utf8
            case UInt8(ascii: "\""): bytes += "&quot;".utf8
            case UInt8(ascii: "\r"): bytes += "&#13;".utf8
            case 0..<0x20 where byte != 0x09 && byte != 0x0A: bytes += "\u{FFFD}".utf8
            default: bytes.append(byte)
            }
        }
    }
}
