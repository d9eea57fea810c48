/// What a worker runs: image, start command, environment, size of the container volume.
/// Fields and defaults: RunPod REST v1, `/templates`.
package struct Template: Codable, Sendable, Equatable {
    package var id: String
    package var name: String
    package var imageName: String
    package var category: String
    /// The container volume's hard limit in GiB.
    package var containerDiskInGb: Int
    package var containerRegistryAuthId: String?
    /// Empty: the image's own.
    package var dockerEntrypoint: [String]
    package var dockerStartCmd: [String]
    package var env: [String: String]
    package var isPublic: Bool
    package var isServerless: Bool
    package var ports: [String]
    package var readme: String
    package var volumeInGb: Int
    package var volumeMountPath: String
    package var createdAt: Milliseconds

    package static let fields: [Field] = [
        Field("name", .text(191), required: true, "unique name"),
        Field("imageName", .text(512), required: true, "image reference, for example 'team/worker:1'"),
        Field("category", .choice(["NVIDIA", "AMD", "CPU"]), default: "NVIDIA", "kind of machine it is made for"),
        Field("containerDiskInGb", .integer(1...4096), default: 50, "hard limit of the container volume, GiB"),
        Field("containerRegistryAuthId", .text(64), "id of registry credentials"),
        Field("dockerEntrypoint", .texts(64), default: [], "replaces the image's entrypoint when not empty"),
        Field("dockerStartCmd", .texts(256), default: [], "replaces the image's command when not empty"),
        Field("env", .map(50), default: [:], "environment of the worker"),
        Field("isPublic", .boolean, default: false, "kept for compatibility"),
        Field("isServerless", .boolean, default: false, mutable: false, "kept for compatibility"),
        Field("ports", .texts(64), default: ["8888/http", "22/tcp"], "kept for compatibility"),
        Field("readme", .text(65_536), default: "", "text for people"),
        Field("volumeInGb", .integer(0...4096), default: 20, "pods only; workers ignore it"),
        Field("volumeMountPath", .text(255), default: "/workspace", "pods only; workers use /runpod-volume"),
    ]

    package init(id: String, createdAt: Milliseconds, values: FieldValues) {
        self.id = id
        self.createdAt = createdAt
        name = ""
        imageName = ""
        category = "NVIDIA"
        containerDiskInGb = 50
        dockerEntrypoint = []
        dockerStartCmd = []
        env = [:]
        isPublic = false
        isServerless = false
        ports = []
        readme = ""
        volumeInGb = 20
        volumeMountPath = "/workspace"
        apply(values)
    }

    package mutating func apply(_ values: FieldValues) {
        if let value = values.string("name") { name = value }
        if let value = values.string("imageName") { imageName = value }
        if let value = values.string("category") { category = value }
        if let value = values.int("containerDiskInGb") { containerDiskInGb = value }
        if let value = values.string("containerRegistryAuthId") { containerRegistryAuthId = value.isEmpty ? nil : value }
        if let value = values.strings("dockerEntrypoint") { dockerEntrypoint = value }
        if let value = values.strings("dockerStartCmd") { dockerStartCmd = value }
        if let value = values.map("env") { env = value }
        if let value = values.bool("isPublic") { isPublic = value }
        if let value = values.bool("isServerless") { isServerless = value }
        if let value = values.strings("ports") { ports = value }
        if let value = values.string("readme") { readme = value }
        if let value = values.int("volumeInGb") { volumeInGb = value }
        if let value = values.string("volumeMountPath") { volumeMountPath = value }
    }

    /// Whether a worker started from `old` differs from one started from this.
    package func runsDifferently(from old: Template) -> Bool {
        imageName != old.imageName || env != old.env || dockerStartCmd != old.dockerStartCmd
            || dockerEntrypoint != old.dockerEntrypoint || containerDiskInGb != old.containerDiskInGb
    }

    /// Bytes of the container volume. One GB of the API is 2^30 bytes.
    package var containerDiskBytes: Int64 { Int64(containerDiskInGb) << 30 }

    package var json: JSON {
        .compact([
            "id": .string(id), "name": .string(name), "imageName": .string(imageName), "category": .string(category),
            "containerDiskInGb": .int(containerDiskInGb),
            "containerRegistryAuthId": containerRegistryAuthId.map { .string($0) },
            "dockerEntrypoint": .strings(dockerEntrypoint), "dockerStartCmd": .strings(dockerStartCmd),
            "env": JSON(map: env), "isPublic": .bool(isPublic), "isServerless": .bool(isServerless),
            "isRunpod": false, "earned": 0, "runtimeInMin": 0, "ports": .strings(ports), "readme": .string(readme),
            "volumeInGb": .int(volumeInGb), "volumeMountPath": .string(volumeMountPath),
            "createdAt": .string(Timestamp.text(createdAt)),
        ])
    }
}

extension JSON {
    /// An object from a dictionary, sorted by key.
    package init(map: [String: String]) {
        self = .object(map.sorted { $0.key < $1.key }.map { Member($0.key, .string($0.value)) })
    }
}
