/// A named place with a storage root and declared capacity. A volume lies in one, and pins workers to it.
package struct DataCenter: Codable, Sendable, Equatable {
    package var id: String
    /// Directory its network volumes lie in; nil means a folder of the data directory.
    package var storage: String?
    /// CPUs its workers may take together. CPU is shared by time, so this may exceed the machine's.
    package var vcpus: Int
    package var memoryBytes: Int64
    /// GPUs by type name.
    package var gpus: [String: Int]

    package init(id: String, storage: String? = nil, vcpus: Int, memoryBytes: Int64, gpus: [String: Int] = [:]) {
        self.id = id
        self.storage = storage
        self.vcpus = vcpus
        self.memoryBytes = memoryBytes
        self.gpus = gpus
    }

    package var json: JSON {
        [
            "id": .string(id), "vcpus": .int(vcpus), "memoryGb": .int(Int(memoryBytes >> 30)),
            "gpus": .object(gpus.sorted { $0.key < $1.key }.map { JSON.Member($0.key, .int($0.value)) }),
        ]
    }
}
