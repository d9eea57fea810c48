import Disk
import Resource

/// Everything `roost serve` can be told. Flags come before environment, environment before the file.
package struct ServerConfiguration: Sendable {
    package var dataDirectory: String
    package var host = "127.0.0.1"
    package var port = 8080
    /// `crun`, `runc` or a path; nil chooses.
    package var runtime: String?
    package var dataCenters: [DataCenter]
    package var minimumVolumeGb = 10
    package var runBodyBytes = Limits.runBodyBytes
    package var runsyncBodyBytes = Limits.runsyncBodyBytes
    package var jobs = JobSettings()
    package var initTimeoutSeconds = Limits.initTimeoutSeconds
    /// Free bytes of the data directory's disk that container volumes never get.
    package var diskReserveBytes: Int64 = 2 << 30
    /// How long SIGTERM waits for running jobs.
    package var shutdownGraceSeconds = 10
    /// How long a connection may stay silent between requests or within one. Long polls are not silent: they wait for us.
    package var idleConnectionSeconds = 90
    /// Most bytes of cached models; nil is no bound. Models that endpoints name stay even above it.
    package var modelBytes: Int64?
    /// Where `hf:` models come from.
    package var modelHubURL = "https://huggingface.co"
    /// Most bytes of images; nil is no bound. Images in use stay even above it.
    package var imageBytes: Int64?
    /// Whether images that jobs wait for are pulled from their registries.
    package var pullsImages = true
    /// Most parked workers, and the most memory that they may hold together.
    package var parkedWorkers = 32
    package var parkedBytes = Machine.memoryBytes / 4
    /// Memory of the machine that stays available: parked workers go before it does.
    package var memoryReserveBytes: Int64 = 1 << 30
    package var s3 = S3Settings()
    /// Path of rclone, for bucket mounts; nil looks for it.
    package var rclone: String?
    /// Whether object stores may be at link-local addresses or this server's own API.
    package var allowsPrivateStores = false
    package var logLevel = "info"

    package init(dataDirectory: String) {
        self.dataDirectory = dataDirectory
        dataCenters = [DataCenter(id: "LOCAL-1", vcpus: Machine.defaultVcpus, memoryBytes: Machine.memoryBytes)]
    }

    /// Takes over what a configuration file says. Unknown keys are errors: a typing mistake must not pass silently.
    package mutating func apply(file json: JSON) throws(RoostError) {
        guard let members = json.members else { throw RoostError(.invalid, "the configuration file must hold a JSON object") }
        for member in members {
            switch member.key {
            case "dataDir": dataDirectory = try text(member)
            case "listen": try listen(on: text(member))
            case "runtime": runtime = try text(member)
            case "dataCenters": dataCenters = try Self.dataCenters(member.value)
            case "minimumVolumeGb": minimumVolumeGb = try number(member, 1...NetworkVolume.maximumSize)
            case "runBodyBytes": runBodyBytes = try number(member, 1_024...(1 << 30))
            case "runsyncBodyBytes": runsyncBodyBytes = try number(member, 1_024...(1 << 30))
            case "outputBytes": jobs.outputBytes = try number(member, 1_024...(1 << 30))
            case "retentionSeconds": jobs.retention = try Int64(number(member, 1...604_800)) * 1_000
            case "syncRetentionSeconds": jobs.syncRetention = try Int64(number(member, 1...604_800)) * 1_000
            case "jobRetries": jobs.retries = try number(member, 0...100)
            case "cancelGraceSeconds": jobs.cancelGrace = try Int64(number(member, 0...3_600)) * 1_000
            case "initTimeoutSeconds": initTimeoutSeconds = try number(member, 1...86_400)
            case "diskReserveGb": diskReserveBytes = try Int64(number(member, 0...100_000)) << 30
            case "shutdownGraceSeconds": shutdownGraceSeconds = try number(member, 0...3_600)
            case "idleConnectionSeconds": idleConnectionSeconds = try number(member, 1...86_400)
            case "allowPrivateStores": allowsPrivateStores = try flag(member)
            case "s3Listen": try listenS3(on: text(member))
            case "s3TlsCert": s3.certificate = try text(member)
            case "s3TlsKey": s3.privateKey = try text(member)
            case "s3Domains": s3.domains = try domains(member)
            case "s3Connections": s3.connections = try number(member, 1...65_536)
            case "s3SilenceSeconds": s3.silenceSeconds = try number(member, 1...3_600)
            case "bucketSizeGb": s3.bucketSizeGb = try number(member, 1...NetworkVolume.maximumSize)
            case "abandonedUploadSeconds": s3.abandonedUploadSeconds = try number(member, 60...31_536_000)
            case "modelsGb": modelBytes = try Int64(number(member, 1...1_000_000)) << 30
            case "modelHubUrl": modelHubURL = try publicURL(member)
            case "imagesGb": imageBytes = try Int64(number(member, 1...100_000)) << 30
            case "pullImages": pullsImages = try flag(member)
            case "parkedWorkers": parkedWorkers = try number(member, 0...10_000)
            case "parkedMemoryGb": parkedBytes = try Int64(number(member, 0...100_000)) << 30
            case "memoryReserveGb": memoryReserveBytes = try Int64(number(member, 0...100_000)) << 30
            case "s3PublicUrl": s3.publicURL = try publicURL(member)
            case "rclone": rclone = try text(member)
            case "logLevel": logLevel = try text(member)
            default: throw RoostError(.invalid, "configuration: unknown key '\(member.key)'")
            }
        }
    }

    /// `host:port`, `:port` or `[v6]:port`.
    package mutating func listen(on text: String) throws(RoostError) { (host, port) = try Self.address(text) }

    /// The same for the S3 door; `off` leaves it out.
    package mutating func listenS3(on text: String) throws(RoostError) {
        s3.isOn = text != "off"
        if s3.isOn { (s3.host, s3.port) = try Self.address(text) }
    }

    private func publicURL(_ member: JSON.Member) throws(RoostError) -> String {
        var url = try text(member)
        while url.hasSuffix("/") { url.removeLast() }
        let rest = url.firstRange(of: "://").map { url[$0.upperBound...] } ?? ""
        guard url.hasPrefix("http://") || url.hasPrefix("https://"), !rest.isEmpty, !rest.contains("/") else {
            throw RoostError(.invalid, "configuration: '\(member.key)' must be http://HOST[:PORT] or https://HOST[:PORT]")
        }
        return url
    }

    private func domains(_ member: JSON.Member) throws(RoostError) -> [String] {
        guard let names = member.value.array?.compactMap(\.string), names.count == member.value.array?.count,
            names.allSatisfy({ !$0.isEmpty })
        else { throw RoostError(.invalid, "configuration: 's3Domains' must be an array of host names") }
        return names.map { $0.lowercased() }
    }

    private static func address(_ text: String) throws(RoostError) -> (host: String, port: Int) {
        guard let colon = text.lastIndex(of: ":"), let number = Int(text[text.index(after: colon)...]),
            (0...65_535).contains(number)
        else { throw RoostError(.invalid, "listen address '\(text)' is not HOST:PORT") }
        var name = String(text[..<colon])
        if name.hasPrefix("["), name.hasSuffix("]") { name = String(name.dropFirst().dropLast()) }
        return (name.isEmpty ? "0.0.0.0" : name, number)
    }

    private func text(_ member: JSON.Member) throws(RoostError) -> String {
        guard let value = member.value.string, !value.isEmpty else {
            throw RoostError(.invalid, "configuration: '\(member.key)' must be a non-empty string")
        }
        return value
    }

    private func flag(_ member: JSON.Member) throws(RoostError) -> Bool {
        guard let value = member.value.bool else { throw RoostError(.invalid, "configuration: '\(member.key)' must be true or false") }
        return value
    }

    private func number(_ member: JSON.Member, _ range: ClosedRange<Int>) throws(RoostError) -> Int {
        guard let value = member.value.int, range.contains(value) else {
            throw RoostError(.invalid, "configuration: '\(member.key)' must be an integer from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// An optional positive number: `.some(nil)` when it is absent, nil when it is wrong.
    private static func amount(_ value: JSON?) -> Int?? {
        guard let value else { return .some(nil) }
        return value.int.flatMap { (1...1_000_000).contains($0) ? .some($0) : nil }
    }

    private static func dataCenters(_ json: JSON) throws(RoostError) -> [DataCenter] {
        let shape = "configuration: 'dataCenters' must be an array of {\"id\", \"storage\", \"vcpus\", \"memoryGb\", \"gpus\"}"
        guard let values = json.array, !values.isEmpty else { throw RoostError(.invalid, shape) }
        var centers: [DataCenter] = []
        for value in values {
            guard let id = value["id"]?.string, Identifier.isSafe(id), !centers.contains(where: { $0.id == id }) else {
                throw RoostError(.invalid, shape + ": each needs its own 'id' of letters, digits and '-'")
            }
            var gpus: [String: Int] = [:]
            for member in value["gpus"]?.members ?? [] {
                guard let count = member.value.int, (0...1_024).contains(count) else { throw RoostError(.invalid, shape) }
                gpus[member.key] = count
            }
            guard let vcpus = amount(value["vcpus"]), let memoryGb = amount(value["memoryGb"]) else {
                throw RoostError(.invalid, shape + ": 'vcpus' and 'memoryGb' are integers from 1 to 1000000")
            }
            centers.append(
                DataCenter(
                    id: id, storage: value["storage"]?.string, vcpus: vcpus ?? Machine.defaultVcpus,
                    memoryBytes: memoryGb.map { Int64($0) << 30 } ?? Machine.memoryBytes, gpus: gpus))
        }
        return centers
    }
}

/// How the S3 door is set.
package struct S3Settings: Sendable {
    package var isOn = true
    package var host = "127.0.0.1"
    package var port = 9_000
    /// PEM files; TLS when both are given.
    package var certificate: String?
    package var privateKey: String?
    /// Where clients elsewhere reach the door, for presigned URLs; nil is where it listens.
    package var publicURL: String?
    /// Names under which buckets are hosts: `BUCKET.DOMAIN`.
    package var domains = ["localhost"]
    package var connections = 2_048
    package var silenceSeconds = 60
    /// Size of a volume made as a bucket; nil is the smallest allowed.
    package var bucketSizeGb: Int?
    /// After so long without a new part an upload is given up.
    package var abandonedUploadSeconds = 7 * 86_400
}

/// The paths below a data directory. One place knows them all.
package struct DataLayout: Sendable {
    package let root: String

    package init(root: String) { self.root = root }

    package var lock: String { root + "/lock" }
    package var secretKeys: String { root + "/secret.keys" }
    package var database: String { root + "/roost.sqlite" }
    package var images: String { root + "/images" }
    package var models: String { root + "/models" }
    package var warmPages: String { root + "/warmpages" }
    package var uploads: String { root + "/images/uploads" }
    package var templates: String { root + "/templates" }
    package var workers: String { root + "/workers" }
    package var logs: String { root + "/logs" }
    package var runtime: String { root + "/runtime" }
    package var layerMounts: String { root + "/mnt/l" }
    package var volumeMounts: String { root + "/mnt/volumes" }
    package var workerMounts: String { root + "/mnt/workers" }
    package var bucketMounts: String { root + "/mnt/buckets" }

    package func worker(_ id: String) -> String { workers + "/" + id }
    package func disk(of worker: String) -> String { workers + "/" + worker + "/disk.ext4" }
    package func log(of worker: Worker) -> String { logs + "/" + worker.endpointID + "/" + worker.id + ".log" }
    package func log(endpoint: String, worker: String) -> String { logs + "/" + endpoint + "/" + worker + ".log" }
    package func volumes(of center: DataCenter) -> String { center.storage ?? root + "/volumes/" + center.id }

    package func make() throws {
        for folder in [root, images, uploads, templates, workers, logs, runtime, layerMounts, volumeMounts, workerMounts, bucketMounts] {
            try Files.makeDirectories(folder)
        }
    }
}
