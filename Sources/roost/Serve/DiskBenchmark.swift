import ArgumentParser
import Containers
import Disk
import Glibc
import Resource

/// `roost bench-disk`: what `make bench` measures of container volumes, by the calls a worker's start makes.
struct DiskBenchmark: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench-disk", abstract: "Time container volumes.", shouldDisplay: false)

    @Option(help: "Scratch folder.") var dataDir: String
    @Option(help: "GiB of each volume.") var size = 20
    @Option(help: "How many to make and wipe.") var count = 40

    func run() async throws {
        let disks = ContainerVolume(templates: dataDir + "/templates", mounts: dataDir + "/mnt")
        let layers = ImageStore.Layers(folder: dataDir, names: ["layer"])
        try Files.makeDirectories(dataDir + "/layer")
        let begin = ContinuousClock.now
        let template = try await disks.prepareTemplate(bytes: Int64(size) << 30)
        let templateMs = begin.duration(to: .now) / .milliseconds(1)
        var made: [Double] = []
        var wiped: [Double] = []
        for number in 0..<count {
            let (file, worker) = ("\(dataDir)/disk-\(number).ext4", "w\(number)")
            let start = ContinuousClock.now
            let mounted = try disks.make(file: file, worker: worker, template: template, layers: layers)
            let ready = ContinuousClock.now
            try Files.replace(mounted.rootfs + "/written", with: [UInt8](repeating: 1, count: 1 << 20))
            let end = ContinuousClock.now
            try disks.wipe(file: file, worker: worker)
            made.append(start.duration(to: ready) / .milliseconds(1))
            wiped.append(end.duration(to: .now) / .milliseconds(1))
        }
        let milli = { (value: Double) in JSON.number(String(Double(Int(value * 1_000)) / 1_000)) }
        let median = { (values: [Double]) in values.sorted()[values.count / 2] }
        print(
            JSON.object([
                .init("gib", .int(size)), .init("template_ms", milli(templateMs)), .init("create_ms", milli(median(made))),
                .init("wipe_ms", milli(median(wiped))), .init("both_ms", milli(median(zip(made, wiped).map { $0 + $1 }))),
            ]).text)
    }
}
