/// Reads the small XML documents that S3 clients send: elements, text, the five named entities and numeric ones.
///
/// No document type, so no entity can be defined and none can explode; depth, size and element count are bounded.
package struct XMLReader {
    /// An element with its text and children. Names come without their namespace prefix.
    package struct Element: Sendable, Equatable {
        package var name: String
        package var text = ""
        package var children: [Element] = []

        package init(name: String) { self.name = name }

        package subscript(name: String) -> Element? { children.first { $0.name == name } }
        package func all(_ name: String) -> [Element] { children.filter { $0.name == name } }
    }

    package static let maximumBytes = 4 << 20
    package static let maximumDepth = 16
    package static let maximumElements = 100_000

    private var rest: ArraySlice<UInt8>
    private var elements = 0

    private init(_ bytes: [UInt8]) { rest = bytes[...] }

    /// The root element of a document.
    package static func parse(_ bytes: [UInt8]) throws(S3Error) -> Element {
        guard bytes.count <= maximumBytes else { throw S3Error(.malformedXML, "the document is over \(maximumBytes) bytes") }
        guard String(validating: bytes, as: UTF8.self) != nil else { throw malformed("it is not UTF-8") }
        var reader = XMLReader(bytes)
        try reader.skipMisc()
        let root = try reader.element(depth: 0)
        try reader.skipMisc()
        guard reader.rest.isEmpty else { throw malformed("something follows the root element") }
        return root
    }

    private static func malformed(_ why: String) -> S3Error { S3Error(.malformedXML, "the XML is not well-formed: \(why)") }

    /// Space, comments and processing instructions outside elements.
    private mutating func skipMisc() throws(S3Error) {
        while true {
            skipSpace()
            if takes("<?") {
                try skip(through: "?>")
            } else if takes("<!--") {
                try skip(through: "-->")
            } else {
                return
            }
        }
    }

    private mutating func element(depth: Int) throws(S3Error) -> Element {
        elements += 1
        guard depth < Self.maximumDepth, elements <= Self.maximumElements else { throw Self.malformed("it is too deep or too long") }
        guard takes("<") else { throw Self.malformed("expected an element") }
        let tag = try name()
        try attributes()
        var element = Element(name: Self.local(tag))
        if takes("/>") { return element }
        guard takes(">") else { throw Self.malformed("expected '>'") }
        try content(of: &element, depth: depth)
        guard try name() == tag else { throw Self.malformed("an end tag does not match") }
        skipSpace()
        guard takes(">") else { throw Self.malformed("expected '>'") }
        return element
    }

    /// Up to and with the `</` of the end tag.
    private mutating func content(of element: inout Element, depth: Int) throws(S3Error) {
        var text: [UInt8] = []
        while true {
            if takes("</") {
                element.text = String(decoding: text, as: UTF8.self)
                return
            }
            if takes("<!--") {
                try skip(through: "-->")
            } else if takes("<?") {
                try skip(through: "?>")
            } else if takes("<![CDATA[") {
                text += try take(through: "]]>")
            } else if rest.first == UInt8(ascii: "<") {
                element.children.append(try self.element(depth: depth + 1))
            } else if rest.first == UInt8(ascii: "&") {
                text += try entity()
            } else if let byte = rest.popFirst() {
                text.append(byte)
            } else {
                throw Self.malformed("it ends inside an element")
            }
        }
    }

    private mutating func attributes() throws(S3Error) {
        while true {
            skipSpace()
            guard let byte = rest.first, byte != UInt8(ascii: ">"), byte != UInt8(ascii: "/") else { return }
            _ = try name()
            skipSpace()
            guard takes("=") else { throw Self.malformed("an attribute has no value") }
            skipSpace()
            guard let quote = rest.popFirst(), quote == UInt8(ascii: "\"") || quote == UInt8(ascii: "'"),
                let end = rest.firstIndex(of: quote), !rest[..<end].contains(UInt8(ascii: "<"))
            else { throw Self.malformed("an attribute is not quoted") }
            rest = rest[(end + 1)...]
        }
    }

    private mutating func entity() throws(S3Error) -> [UInt8] {
        let body = try take(through: ";").dropFirst()
        let text = String(decoding: body, as: UTF8.self)
        let named = ["amp": "&", "lt": "<", "gt": ">", "quot": "\"", "apos": "'"]
        if let value = named[text] { return Array(value.utf8) }
        let digits = text.hasPrefix("#x") ? text.dropFirst(2) : text.dropFirst(1)
        guard text.hasPrefix("#"), body.count <= 10, let number = UInt32(digits, radix: text.hasPrefix("#x") ? 16 : 10),
            let scalar = Unicode.Scalar(number), number != 0
        else { throw Self.malformed("an entity is not known") }
        return Array(String(Character(scalar)).utf8)
    }

    private mutating func name() throws(S3Error) -> [UInt8] {
        let name = rest.prefix { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: ":"), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."), 0x80...0xFF:
                true
            default: false
            }
        }
        guard !name.isEmpty, name.count <= 128 else { throw Self.malformed("expected a name") }
        rest = rest.dropFirst(name.count)
        return Array(name)
    }

    private static func local(_ name: [UInt8]) -> String {
        String(decoding: name.split(separator: UInt8(ascii: ":")).last ?? [], as: UTF8.self)
    }

    private mutating func skipSpace() {
        rest = rest.drop { $0 == 0x20 || $0 == 0x09 || $0 == 0x0A || $0 == 0x0D }
    }

    private mutating func takes(_ text: StaticString) -> Bool {
        let wanted = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
        guard rest.starts(with: wanted) else { return false }
        rest = rest.dropFirst(wanted.count)
        return true
    }

    private mutating func skip(through end: StaticString) throws(S3Error) { _ = try take(through: end) }

    /// What comes before `end`, which is stepped over.
    private mutating func take(through end: StaticString) throws(S3Error) -> ArraySlice<UInt8> {
        let start = rest
        while !rest.isEmpty {
            let here = rest.startIndex
            if takes(end) { return start[..<here] }
            rest = rest.dropFirst()
        }
        throw Self.malformed("it ends too early")
    }
}
