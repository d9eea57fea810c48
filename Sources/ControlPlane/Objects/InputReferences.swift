import Resource

/// `{"$ref": {…}}` in the input of a job: data too large for a request, by where it is.
///
/// The object names `store` and `key`, or `volume` and `key`, or a `url`; it may say `size` and `sha256`, which are then
/// checked. What `/v2/{endpoint}/upload` hands back and what `/status` shows of a large output are both of this form. A
/// `$ref` that is no object, as JSON schemas have it, is left alone.
package struct InputReferences: Sendable {
    package struct Reference: Sendable, Equatable {
        package enum Source: Sendable, Equatable {
            case object(ObjectPlace.Name, key: String)
            case url(String)
        }

        package var source: Source
        package var size: Int64?
        /// Hexadecimal, in lower case.
        package var sha256: String?

        package init(source: Source, size: Int64? = nil, sha256: String? = nil) {
            (self.source, self.size, self.sha256) = (source, size, sha256)
        }

        /// A name for the file that a handler gets, from the last part of where it comes from.
        package var fileName: String {
            var path: Substring
            switch source {
            case .object(_, let key): path = key[...]
            case .url(let url): path = url.prefix { $0 != "?" && $0 != "#" }
            }
            path = path.split(separator: "/").last ?? "input"
            let plain = path.unicodeScalars.map { Identifier.isPlain($0) ? Character($0) : "_" }
            let name = String(plain.suffix(100))
            return name.allSatisfy { $0 == "." } ? "input" : name
        }
    }

    private static let marker = Array("\"$ref\"".utf8)

    /// Whether an input may hold references. Most hold none, and are not parsed for it.
    package static func mayBe(in input: [UInt8]) -> Bool {
        // The quote before the dollar is rare enough to look for alone.
        input.withUnsafeBufferPointer { bytes in
            var at = 0
            while at + marker.count <= bytes.count {
                guard let next = bytes[at...].firstIndex(of: UInt8(ascii: "$")) else { return false }
                let start = next - 1
                if start >= 0, start + marker.count <= bytes.count, bytes[start..<(start + marker.count)].elementsEqual(marker) {
                    return true
                }
                at = next + 1
            }
            return false
        }
    }

    /// The references of an input, in the order they stand in it.
    package static func find(in input: [UInt8]) throws(RoostError) -> [Reference] {
        guard mayBe(in: input) else { return [] }
        var found: [Reference] = []
        _ = try replace(in: parse(input)) { (reference) throws(RoostError) in
            found.append(reference)
            return .null
        }
        guard found.count <= 100 else { throw RoostError(.invalid, "field 'input': \(found.count) of $ref; allowed: 100") }
        return found
    }

    /// The input with each reference replaced by what stands for it, in the order of `find`.
    package static func replace(in input: [UInt8], by values: [JSON]) throws(RoostError) -> [UInt8] {
        var rest = values[...]
        return try replace(in: parse(input)) { (_) throws(RoostError) in rest.popFirst() ?? .null }.bytes
    }

    private static func parse(_ input: [UInt8]) throws(RoostError) -> JSON {
        do throws(JSONReader.Failure) { return try JSONReader.parse(input) } catch { throw RoostError(.invalid, error.description) }
    }

    private static func replace(in value: JSON, _ body: (Reference) throws(RoostError) -> JSON) throws(RoostError) -> JSON {
        switch value {
        case .array(let values):
            var out: [JSON] = []
            for value in values { out.append(try replace(in: value, body)) }
            return .array(out)
        case .object(let members):
            if members.count == 1, members[0].key == "$ref", case .object = members[0].value {
                return try body(reference(members[0].value))
            }
            var out: [JSON.Member] = []
            for member in members { out.append(.init(member.key, try replace(in: member.value, body))) }
            return .object(out)
        default: return value
        }
    }

    private static func reference(_ value: JSON) throws(RoostError) -> Reference {
        let size = value["size"].map { $0.int.map(Int64.init) ?? -1 }
        let digest = value["sha256"].map { $0.string?.lowercased() ?? "" }
        guard size ?? 0 >= 0 else { throw RoostError(.invalid, "field '$ref.size': must be a number of bytes") }
        guard digest.map({ $0.utf8.count == 64 && $0.allSatisfy(\.isHexDigit) }) ?? true else {
            throw RoostError(.invalid, "field '$ref.sha256': must be 64 hexadecimal digits")
        }
        let place: ObjectPlace.Name? = value["store"]?.string.map { .store($0) } ?? value["volume"]?.string.map { .volume($0) }
        if let place, let key = value["key"]?.string, !key.isEmpty {
            return Reference(source: .object(place, key: key), size: size, sha256: digest)
        }
        if let url = value["url"]?.string { return Reference(source: .url(url), size: size, sha256: digest) }
        throw RoostError(.invalid, "field '$ref': must name 'store' and 'key', 'volume' and 'key', or 'url'")
    }
}
