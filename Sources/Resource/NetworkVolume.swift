/// A permanent disk in one data center, shared by workers at `/runpod-volume`.
package struct NetworkVolume: Codable, Sendable, Equatable {
    package enum State: String, Codable, Sendable {
        /// Recorded, its filesystem not made yet.
        case creating = "CREATING"
        case ready = "READY"
        /// Recorded for removal, its file not gone yet.
        case deleting = "DELETING"
    }

    package var id: String
    package var name: String
    /// GiB; grows only.
    package var size: Int
    package var dataCenterId: String
    package var state: State
    package var createdAt: Milliseconds
    /// Made as a bucket: then S3 lists it by its name.
    package var isBucket: Bool?

    /// RunPod: 10 to 4096 GB. Configuration may lower the minimum.
    package static let maximumSize = 4_096

    package static func fields(minimumSize: Int) -> [Field] {
        [
            Field("name", .text(191), required: true, "name for people; need not be unique"),
            Field("size", .integer(minimumSize...maximumSize), required: true, "GiB; can grow, never shrink"),
            Field("dataCenterId", .text(64), required: true, mutable: false, "where it lies; see /v1/datacenters"),
        ]
    }

    package init(id: String, name: String, size: Int, dataCenterId: String, createdAt: Milliseconds) {
        self.id = id
        self.name = name
        self.size = size
        self.dataCenterId = dataCenterId
        self.createdAt = createdAt
        state = .creating
    }

    package var bytes: Int64 { Int64(size) << 30 }

    package var json: JSON {
        [
            "id": .string(id), "name": .string(name), "size": .int(size), "dataCenterId": .string(dataCenterId),
            "status": .string(state.rawValue), "createdAt": .string(Timestamp.text(createdAt)),
        ]
    }
}
