import Resource

/// A network volume as the door sees it.
package struct Bucket: Sendable, Equatable {
    package var id: String
    /// What listings call it: the id, or the name of a volume that was made as a bucket.
    package var name: String
    package var dataCenter: String
    package var createdAt: Milliseconds
    /// Where the user's tree lies, and the folder beside it that is ours.
    package var data: String
    package var staging: String

    package init(id: String, name: String, dataCenter: String, createdAt: Milliseconds, data: String, staging: String) {
        (self.id, self.name, self.dataCenter, self.createdAt) = (id, name, dataCenter, createdAt)
        (self.data, self.staging) = (data, staging)
    }
}

/// Who may do what with an access key.
package struct Credential: Sendable, Equatable {
    package var accessKey: String
    package var secret: String
    /// Nil means all volumes.
    package var volumes: Set<String>?
    /// Keys must begin with one of them; none means all keys.
    package var prefixes: [String]
    package var isReadOnly: Bool
    /// Whether it may make and delete buckets.
    package var managesBuckets: Bool
    package var expiresAt: Milliseconds?

    package init(
        accessKey: String, secret: String, volumes: Set<String>? = nil, prefixes: [String] = [], isReadOnly: Bool = false,
        managesBuckets: Bool = true, expiresAt: Milliseconds? = nil
    ) {
        (self.accessKey, self.secret, self.volumes, self.prefixes) = (accessKey, secret, volumes, prefixes)
        (self.isReadOnly, self.managesBuckets, self.expiresAt) = (isReadOnly, managesBuckets, expiresAt)
    }

    func allows(volume id: String) -> Bool { volumes?.contains(id) ?? true }

    /// Whether a key, or all keys with a prefix, lie within what it may reach.
    func allows(key: some Sequence<UInt8>) -> Bool { prefixes.isEmpty || prefixes.contains { key.starts(with: $0.utf8) } }
}

/// What the door asks of the control plane. Called from the door's own threads: it may wait.
package protocol BucketDirectory: Sendable {
    func credential(_ accessKey: String) -> Credential?
    /// The ready volume of this id or, where one alone has it, of this name.
    func bucket(_ name: String) -> Bucket?
    func buckets() -> [Bucket]
    /// Makes a volume, in the first of the data centers `hints` that there is, else the default one.
    func create(_ name: String, hints: [String], sizeGb: Int?) throws(S3Error) -> Bucket
    func delete(_ bucket: Bucket) throws(S3Error)
}
