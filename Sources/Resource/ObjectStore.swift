/// An S3-compatible store of the user's own, by a name that endpoints and jobs may use instead of credentials.
package struct ObjectStore: Codable, Sendable, Equatable {
    package var name: String
    /// `https://host[:port]`, without a path.
    package var endpointUrl: String
    package var bucketName: String
    /// In front of every key, without a slash at its ends; may be empty.
    package var prefix: String
    package var region: String
    /// `path` or `virtual`: where the bucket's name goes. Nil is `path`.
    package var addressing: String?
    package var accessId: String
    package var sealedSecret: String
    package var createdAt: Milliseconds

    package static let fields: [Field] = [
        Field("name", .text(64), required: true, mutable: false, "letters, digits, '-' and '_'"),
        Field("endpointUrl", .text(512), required: true, "http or https, host and port; no path"),
        Field("bucketName", .text(255), required: true, "the bucket"),
        Field("prefix", .text(512), default: "", "in front of every key"),
        Field("region", .text(64), default: "us-east-1", "for the signature"),
        Field("addressing", .choice(["path", "virtual"]), default: "path", "bucket in the path, or in front of the host"),
        Field("accessId", .text(255), required: true, "access key id"),
        Field("accessSecret", .text(1_024), required: true, "secret access key; kept sealed and never shown"),
    ]

    package init(name: String, sealedSecret: String, at now: Milliseconds, values: FieldValues) throws(RoostError) {
        self.name = name
        self.sealedSecret = sealedSecret
        (endpointUrl, bucketName, prefix, region, accessId, createdAt) = ("", "", "", "us-east-1", "", now)
        try apply(values)
        guard Identifier.isSafe(name) else {
            throw RoostError(.invalid, "field 'name': '\(name.prefix(80))' is not 1 to 64 letters, digits, '-' and '_'")
        }
    }

    /// Takes over what a request changes; not the secret, which the caller seals.
    package mutating func apply(_ values: FieldValues) throws(RoostError) {
        if let value = values.string("endpointUrl") { endpointUrl = value }
        if let value = values.string("bucketName") { bucketName = value }
        if let value = values.string("prefix") { prefix = value }
        if let value = values.string("region"), !value.isEmpty { region = value }
        if let value = values.string("addressing") { addressing = value }
        if let value = values.string("accessId") { accessId = value }
        while endpointUrl.hasSuffix("/") { endpointUrl.removeLast() }
        while prefix.hasSuffix("/") { prefix.removeLast() }
        while prefix.hasPrefix("/") { prefix.removeFirst() }
        try check()
    }

    private func check() throws(RoostError) {
        guard
            let rest = ["http://", "https://"].lazy.compactMap({ scheme in
                endpointUrl.hasPrefix(scheme) ? endpointUrl.dropFirst(scheme.count) : nil
            }).first, !rest.isEmpty, rest.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && !"/?#@\\".utf8.contains($0) })
        else {
            throw RoostError(.invalid, "field 'endpointUrl': must be http://HOST[:PORT] or https://HOST[:PORT], without a path")
        }
        let isBucket =
            !bucketName.isEmpty
            && bucketName.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                    true
                default: false
                }
            }
        guard isBucket, bucketName != ".", bucketName != ".." else {
            throw RoostError(.invalid, "field 'bucketName': '\(bucketName.prefix(80))' is no bucket's name")
        }
        for (field, value) in [("prefix", prefix), ("region", region), ("accessId", accessId)] {
            guard value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else {
                throw RoostError(.invalid, "field '\(field)': must not have control characters")
            }
        }
    }

    /// Host of the endpoint, without port and brackets, in lower case.
    package var host: String {
        let rest = (endpointUrl.firstRange(of: "://").map { endpointUrl[$0.upperBound...] } ?? endpointUrl[...]).lowercased()
        if rest.hasPrefix("["), let end = rest.firstIndex(of: "]") { return String(rest[rest.index(after: rest.startIndex)..<end]) }
        return rest.lastIndex(of: ":").map { String(rest[..<$0]) } ?? rest
    }

    package var port: Int {
        let rest = endpointUrl.firstRange(of: "://").map { endpointUrl[$0.upperBound...] } ?? endpointUrl[...]
        let after = rest.lastIndex(of: "]").map { rest[$0...] } ?? rest
        let standard = endpointUrl.hasPrefix("https://") ? 443 : 80
        return after.lastIndex(of: ":").flatMap { Int(after[after.index(after: $0)...]) } ?? standard
    }

    package var json: JSON {
        [
            "name": .string(name), "endpointUrl": .string(endpointUrl), "bucketName": .string(bucketName), "prefix": .string(prefix),
            "region": .string(region), "addressing": .string(addressing ?? "path"), "accessId": .string(accessId),
            "createdAt": .string(Timestamp.text(createdAt)),
        ]
    }
}
