/// A credential of the S3 door. Its secret is shown once and kept sealed: signatures are checked with it.
package struct S3Key: Codable, Sendable, Equatable {
    /// `user_…`, as RunPod's are.
    package var accessKeyId: String
    package var name: String
    /// Volumes it reaches; none named means all.
    package var volumeIds: [String]
    /// What keys must begin with; none named means any.
    package var prefixes: [String]
    package var readOnly: Bool
    /// Whether it may make and delete buckets, that is volumes.
    package var manageBuckets: Bool
    package var expiresAt: Milliseconds?
    package var sealedSecret: String
    package var createdAt: Milliseconds

    package static let fields: [Field] = [
        Field("name", .text(191), default: "", "name for people"),
        Field("volumeIds", .texts(1_000), default: [], "volumes it reaches; none: all, also later ones"),
        Field("prefixes", .texts(100), default: [], "what keys must begin with; none: any"),
        Field("readOnly", .boolean, default: false, "may read and list, nothing else"),
        Field("manageBuckets", .boolean, "may make and delete buckets; by default where nothing limits the key"),
        Field("expiresInSeconds", .integer(1...315_360_000), "until it stops working; by default it does not"),
    ]

    /// Throws `.invalid` for limits that contradict each other.
    package init(values: FieldValues, sealedSecret: String, accessKeyId: String, at now: Milliseconds) throws(RoostError) {
        self.accessKeyId = accessKeyId
        self.sealedSecret = sealedSecret
        name = values.string("name") ?? ""
        volumeIds = values.strings("volumeIds") ?? []
        prefixes = values.strings("prefixes") ?? []
        readOnly = values.bool("readOnly") ?? false
        expiresAt = values.int("expiresInSeconds").map { now + Int64($0) * 1_000 }
        createdAt = now
        let isFree = volumeIds.isEmpty && prefixes.isEmpty && !readOnly
        manageBuckets = values.bool("manageBuckets") ?? isFree
        guard isFree || !manageBuckets else {
            throw RoostError(.invalid, "field 'manageBuckets': a key that is limited to volumes, prefixes or reading cannot manage buckets")
        }
    }

    package func isExpired(at now: Milliseconds) -> Bool { expiresAt.map { $0 <= now } ?? false }

    package var json: JSON {
        .compact([
            "accessKeyId": .string(accessKeyId), "name": .string(name), "volumeIds": .strings(volumeIds), "prefixes": .strings(prefixes),
            "readOnly": .bool(readOnly), "manageBuckets": .bool(manageBuckets),
            "expiresAt": expiresAt.map { .string(Timestamp.text($0)) }, "createdAt": .string(Timestamp.text(createdAt)),
        ])
    }
}
