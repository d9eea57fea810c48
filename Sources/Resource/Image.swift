/// An image in the local cache. Its layers lie as EROFS files, one a digest, shared between images.
package struct Image: Codable, Sendable, Equatable {
    /// SHA-256 of the image's configuration, in hexadecimal: what it is, whatever it is called.
    package var id: String
    /// With its tag, for example `team/worker:1`.
    package var name: String
    /// Digests of the uncompressed layers (`diff_id`), lowest first, in hexadecimal.
    package var layers: [String]
    package var entrypoint: [String]
    package var command: [String]
    package var env: [String]
    package var workingDirectory: String
    package var user: String
    package var bytes: Int64
    package var createdAt: Milliseconds
    /// `sha256:…` of the manifest it was pulled by; nil for imported ones. The name stays with it until it is pulled anew.
    package var manifestDigest: String?
    /// When a worker was last started from it.
    package var usedAt: Milliseconds?

    package init(
        id: String, name: String, layers: [String], entrypoint: [String], command: [String], env: [String],
        workingDirectory: String, user: String, bytes: Int64, createdAt: Milliseconds
    ) {
        self.id = id
        self.name = name
        self.layers = layers
        self.entrypoint = entrypoint
        self.command = command
        self.env = env
        self.workingDirectory = workingDirectory
        self.user = user
        self.bytes = bytes
        self.createdAt = createdAt
    }

    /// `name` with `:latest` where it names neither tag nor digest.
    package static func normalize(_ name: String) -> String {
        let last = name.split(separator: "/").last ?? ""
        return last.contains(":") || last.contains("@") ? name : name + ":latest"
    }

    package var json: JSON {
        .compact([
            "id": .string(String(id.prefix(12))), "name": .string(name), "digest": .string("sha256:" + id),
            "layers": .strings(layers.map { "sha256:" + $0 }), "bytes": .int(Int(bytes)),
            "entrypoint": .strings(entrypoint), "cmd": .strings(command),
            "manifestDigest": manifestDigest.map { .string($0) }, "usedAt": usedAt.map { .string(Timestamp.text($0)) },
            "createdAt": .string(Timestamp.text(createdAt)),
        ])
    }
}
