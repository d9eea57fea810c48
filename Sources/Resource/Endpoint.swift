/// A URL that takes jobs. Fields and defaults: RunPod REST v1, `/endpoints`.
package struct Endpoint: Codable, Sendable, Equatable {
    package enum ScalerType: String, Codable, Sendable {
        /// Add a worker when a job has waited longer than `scalerValue` seconds.
        case queueDelay = "QUEUE_DELAY"
        /// One worker for every `scalerValue` jobs queued or running.
        case requestCount = "REQUEST_COUNT"
    }

    package enum ComputeType: String, Codable, Sendable {
        case gpu = "GPU"
        case cpu = "CPU"
    }

    package var id: String
    package var name: String
    package var templateId: String
    package var computeType: ComputeType
    package var gpuTypeIds: [String]
    package var gpuCount: Int
    package var cpuFlavorIds: [String]
    package var vcpuCount: Int
    /// nil: by CPU flavour, else 2 GiB a CPU.
    package var memoryInGb: Int?
    /// Empty: every data center.
    package var dataCenterIds: [String]
    package var networkVolumeIds: [String]
    package var workersMin: Int
    package var workersMax: Int
    package var idleTimeout: Int
    package var scalerType: ScalerType
    package var scalerValue: Int
    package var executionTimeoutMs: Int
    package var flashboot: Bool
    package var allowedCudaVersions: [String]
    package var minCudaVersion: String?
    /// The object store whose credentials jobs get as `s3Config` unless they bring their own.
    package var objectStore: String?
    /// How a handler gets what `$ref` in its input points to.
    package enum InputRefs: String, Codable, Sendable {
        /// As a file on the worker's container volume.
        case path
        /// As a URL to read it from.
        case url
    }

    /// Models that its workers find in their cache before they start. Nil is none.
    private var models: [String]?
    package var modelReferences: [String] { models ?? [] }
    /// Workers that flashboot keeps started and parked ahead of demand.
    private var spares: Int?
    package var spareWorkers: Int { spares ?? 0 }
    private var warms: Bool?
    /// Whether what its workers read until they are ready is recorded and brought into memory ahead of the next.
    package var warmPages: Bool { warms ?? true }
    /// Where outputs over the limit and uploaded inputs go: `store:NAME` or `volume:ID`. Nil: such outputs fail.
    package var largeData: String?
    private var inputReferences: InputRefs?
    package var inputRefs: InputRefs { inputReferences ?? .path }
    /// Object stores mounted into its workers, as `STORE[:PREFIX]=/PATH[:rw]`. Nil is none.
    private var mounts: [String]?
    package var bucketMounts: [String] { mounts ?? [] }
    /// Goes up with every change that needs new workers.
    package var version: Int
    package var createdAt: Milliseconds

    package static let fields: [Field] = [
        Field("templateId", .text(64), required: true, "id of the template its workers run"),
        Field("name", .text(191), "name for people; made up when absent"),
        Field("computeType", .choice(["GPU", "CPU"]), mutable: false, "GPU where a data center declares one, else CPU"),
        Field("gpuTypeIds", .texts(64), default: [], "GPU types in order of preference"),
        Field("gpuCount", .integer(1...64), default: 1, "GPUs of one worker"),
        Field("cpuFlavorIds", .texts(16), default: [], "cpu3c, cpu3g, cpu5c or cpu5g: decides memory per CPU"),
        Field("vcpuCount", .integer(1...256), default: 2, "CPU limit of one worker"),
        Field("memoryInGb", .integer(1...4096), "memory limit of one worker, GiB; 2 GiB a CPU when absent"),
        Field("dataCenterIds", .texts(64), default: [], "data centers its workers may run in; empty means all"),
        Field("networkVolumeId", .text(64), "one network volume; an empty string detaches"),
        Field("networkVolumeIds", .texts(64), "network volumes, at most one a data center"),
        Field("workersMin", .integer(0...1_000), default: 0, "workers that always run"),
        Field("workersMax", .integer(0...1_000), default: 3, "most workers at once"),
        Field("idleTimeout", .integer(1...3_600), default: 5, "seconds without a job before a worker stops"),
        Field("scalerType", .choice(["QUEUE_DELAY", "REQUEST_COUNT"]), default: "QUEUE_DELAY", "when to add workers"),
        Field("scalerValue", .integer(1...3_600), default: 4, "seconds, or jobs a worker"),
        Field("executionTimeoutMs", .integer(5_000...604_800_000), default: 600_000, "longest run of one job"),
        Field("flashboot", .boolean, default: false, "park workers at their idle timeout instead of stopping them"),
        Field("spareWorkers", .integer(0...100), default: 0, "with flashboot: workers started and parked ahead of demand"),
        Field("warmPages", .boolean, default: true, "bring what the last worker read until it was ready into memory ahead of the next"),
        Field("allowedCudaVersions", .texts(32), default: [], "kept for compatibility"),
        Field("minCudaVersion", .text(16), "kept for compatibility"),
        Field("largeData", .text(128), "store:NAME or volume:ID: where outputs over the limit and uploaded inputs go; empty takes it away"),
        Field("inputRefs", .choice(["path", "url"]), default: "path", "how a handler gets what $ref in its input points to"),
        Field("bucketMounts", .texts(8), default: [], "object stores mounted into workers: STORE[:PREFIX]=/PATH[:rw]"),
        Field("modelReferences", .texts(16), default: [], "models: volume:ID/path, store:NAME/path, hf:ORG/NAME[@REF] or the hub's URL"),
        Field("objectStore", .text(64), "object store whose credentials jobs get as s3Config; an empty string takes it away"),
    ]

    package init(id: String, createdAt: Milliseconds, standardCompute: ComputeType, values: FieldValues) {
        self.id = id
        self.createdAt = createdAt
        name = "endpoint-\(id)"
        templateId = ""
        computeType = values.strings("gpuTypeIds")?.isEmpty == false ? .gpu : standardCompute
        if values.strings("cpuFlavorIds")?.isEmpty == false { computeType = .cpu }
        gpuTypeIds = []
        gpuCount = 1
        cpuFlavorIds = []
        vcpuCount = 2
        dataCenterIds = []
        networkVolumeIds = []
        workersMin = 0
        workersMax = 3
        idleTimeout = 5
        scalerType = .queueDelay
        scalerValue = 4
        executionTimeoutMs = 600_000
        flashboot = false
        allowedCudaVersions = []
        version = 1
        apply(values)
    }

    package mutating func apply(_ values: FieldValues) {
        if let value = values.string("templateId") { templateId = value }
        if let value = values.string("name"), !value.isEmpty { name = value }
        if let value = values.string("computeType").flatMap(ComputeType.init) { computeType = value }
        if let value = values.strings("gpuTypeIds") { gpuTypeIds = value }
        if let value = values.int("gpuCount") { gpuCount = value }
        if let value = values.strings("cpuFlavorIds") { cpuFlavorIds = value }
        if let value = values.int("vcpuCount") { vcpuCount = value }
        if let value = values.int("memoryInGb") { memoryInGb = value }
        if let value = values.strings("dataCenterIds") { dataCenterIds = value }
        if let value = values.string("networkVolumeId") { networkVolumeIds = value.isEmpty ? [] : [value] }
        if let value = values.strings("networkVolumeIds") { networkVolumeIds = value }
        if let value = values.int("workersMin") { workersMin = value }
        if let value = values.int("workersMax") { workersMax = value }
        if let value = values.int("idleTimeout") { idleTimeout = value }
        if let value = values.string("scalerType").flatMap(ScalerType.init) { scalerType = value }
        if let value = values.int("scalerValue") { scalerValue = value }
        if let value = values.int("executionTimeoutMs") { executionTimeoutMs = value }
        if let value = values.bool("flashboot") { flashboot = value }
        if let value = values.strings("allowedCudaVersions") { allowedCudaVersions = value }
        if let value = values.string("objectStore") { objectStore = value.isEmpty ? nil : value }
        if let value = values.strings("modelReferences") { models = value.isEmpty ? nil : value }
        if let value = values.int("spareWorkers") { spares = value == 0 ? nil : value }
        if let value = values.bool("warmPages") { warms = value ? nil : false }
        if let value = values.string("largeData") { largeData = value.isEmpty ? nil : value }
        if let value = values.string("inputRefs").flatMap(InputRefs.init) { inputReferences = value }
        if let value = values.strings("bucketMounts") { mounts = value.isEmpty ? nil : value }
        if let value = values.string("minCudaVersion") { minCudaVersion = value.isEmpty ? nil : value }
    }

    /// Whether a worker started for `old` differs from one started for this.
    package func runsDifferently(from old: Endpoint) -> Bool {
        templateId != old.templateId || networkVolumeIds != old.networkVolumeIds || dataCenterIds != old.dataCenterIds
            || vcpuCount != old.vcpuCount || memoryBytes != old.memoryBytes || gpuTypeIds != old.gpuTypeIds
            || gpuCount != old.gpuCount || bucketMounts != old.bucketMounts || modelReferences != old.modelReferences
            || computeType != old.computeType
    }

    /// Whether it names an object store for anything.
    package func uses(store name: String) -> Bool {
        objectStore == name || largeData == "store:\(name)" || bucketMounts.contains { (try? BucketMount($0))?.store == name }
    }

    /// Memory limit of one worker in bytes.
    package var memoryBytes: Int64 {
        if let memoryInGb { return Int64(memoryInGb) << 30 }
        let perCPU: Int64 = cpuFlavorIds.first.map { $0.hasSuffix("g") ? 4 : 2 } ?? 2
        return Int64(vcpuCount) * perCPU << 30
    }

    package func json(template: Template?, workers: [JSON]? = nil, includeTemplate: Bool = false) -> JSON {
        .compact([
            "id": .string(id), "name": .string(name), "templateId": .string(templateId),
            "computeType": .string(computeType.rawValue), "gpuTypeIds": .strings(gpuTypeIds), "gpuCount": .int(gpuCount),
            "instanceIds": .strings(cpuFlavorIds.map { "\($0)-\(vcpuCount)-\(memoryBytes >> 30)" }),
            "cpuFlavorIds": .strings(cpuFlavorIds), "vcpuCount": .int(vcpuCount), "memoryInGb": .int(Int(memoryBytes >> 30)),
            "dataCenterIds": .strings(dataCenterIds), "networkVolumeId": .string(networkVolumeIds.first ?? ""),
            "networkVolumeIds": .strings(networkVolumeIds), "workersMin": .int(workersMin),
            "workersMax": .int(workersMax), "idleTimeout": .int(idleTimeout),
            "scalerType": .string(scalerType.rawValue), "scalerValue": .int(scalerValue),
            "executionTimeoutMs": .int(executionTimeoutMs), "flashboot": .bool(flashboot),
            "spareWorkers": .int(spareWorkers), "warmPages": .bool(warmPages),
            "allowedCudaVersions": .strings(allowedCudaVersions), "minCudaVersion": minCudaVersion.map { .string($0) },
            "objectStore": objectStore.map { .string($0) }, "largeData": largeData.map { .string($0) },
            "inputRefs": .string(inputRefs.rawValue), "bucketMounts": .strings(bucketMounts),
            "modelReferences": .strings(modelReferences),
            "env": JSON(map: template?.env ?? [:]), "version": .int(version), "userId": "user_local",
            "createdAt": .string(Timestamp.text(createdAt)), "template": includeTemplate ? template?.json : nil,
            "workers": workers.map { .array($0) },
        ])
    }
}
