/// Tags of an object: at most ten, keys of 1 to 128 characters, values of up to 256.
package struct Tags: Sendable, Equatable {
    package struct Tag: Sendable, Equatable {
        package var key: String
        package var value: String

        package init(key: String, value: String) {
            self.key = key
            self.value = value
        }
    }

    package private(set) var list: [Tag] = []

    package init() {}

    package init(_ list: [Tag]) throws(S3Error) {
        guard list.count <= 10 else { throw S3Error(.invalidTag, "an object has at most 10 tags, got \(list.count)") }
        for tag in list {
            guard (1...128).contains(tag.key.count), tag.value.count <= 256, Self.isPlain(tag.key), Self.isPlain(tag.value) else {
                throw S3Error(.invalidTag, "a tag's key has 1 to 128 characters and its value up to 256, none of them control characters")
            }
        }
        guard Set(list.map(\.key)).count == list.count else { throw S3Error(.invalidTag, "two tags have the same key") }
        self.list = list
    }

    /// `x-amz-tagging`: like a query.
    package init(header: String) throws(S3Error) {
        let head = try RequestHead(method: "GET", target: "/?" + header.replacing("+", with: "%20"), headers: [])
        var list: [Tag] = []
        for parameter in head.parameters {
            guard let key = String(validating: parameter.name, as: UTF8.self),
                let value = String(validating: parameter.value, as: UTF8.self)
            else { throw S3Error(.invalidTag, "a tag is not UTF-8") }
            list.append(Tag(key: key, value: value))
        }
        try self.init(list)
    }

    /// A `<Tagging>` document.
    package init(_ document: XMLReader.Element) throws(S3Error) {
        guard document.name == "Tagging", let set = document["TagSet"] else {
            throw S3Error(.malformedXML, "expected <Tagging> with a <TagSet>")
        }
        var list: [Tag] = []
        for tag in set.all("Tag") {
            guard let key = tag["Key"], let value = tag["Value"] else { throw S3Error(.malformedXML, "a <Tag> needs <Key> and <Value>") }
            list.append(Tag(key: key.text, value: value.text))
        }
        try self.init(list)
    }

    package var document: [UInt8] {
        var xml = XMLWriter()
        xml.element("Tagging", attributes: XMLWriter.namespace) { xml in
            xml.element("TagSet") { xml in
                for tag in list {
                    xml.element("Tag") { xml in
                        xml.text("Key", tag.key)
                        xml.text("Value", tag.value)
                    }
                }
            }
        }
        return xml.bytes
    }

    private static func isPlain(_ text: String) -> Bool { text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F } }
}
