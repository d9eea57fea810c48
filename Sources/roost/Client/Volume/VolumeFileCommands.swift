import ArgumentParser
import Disk
import Glibc
import Resource
import S3

/// What `cp`, `mv` and `sync` share.
struct TransferOptions: ParsableArguments {
    @Flag(help: "Say what would be done, and do nothing.") var dryRun = false
    @Flag(name: .shortAndLong, help: "Neither progress nor a summary.") var quiet = false
    @OptionGroup var client: ClientOptions

    func run(_ transfers: [Transfer], _ session: VolumeSession, verb: String) async throws {
        if dryRun {
            for transfer in transfers { print("\(verb) \(transfer.source.shown) to \(transfer.target.shown)") }
            return
        }
        let progress = Progress(files: transfers.count, bytes: transfers.reduce(0) { $0 + $1.size }, isQuiet: quiet)
        try await TransferEngine(client: session.client, progress: progress).run(transfers)
        Terminal.clearStatus()
        if client.json { return print(JSON.object([.init("files", .int(transfers.count))]).pretty) }
        if !quiet { print("\(verb): \(progress.summary)") }
    }
}

struct VolumeCopy: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cp", abstract: "Copy files between a local path and VOLUME:path, or between volumes.",
        discussion: """
            With --recursive a folder's contents go below the target. On volumes * ? [a-z] match within a name and ** across folders \
            (quote them). Interrupted, the same command goes on where it stopped.
            """)

    @Argument(help: "Sources, then the target.") var paths: [String]
    @Flag(name: .shortAndLong, help: "Folders with all that is below them.") var recursive = false
    @OptionGroup var options: TransferOptions

    func run() async throws { try await Self.run(paths, recursive, options, moves: false) }

    static func run(_ paths: [String], _ recursive: Bool, _ options: TransferOptions, moves: Bool) async throws {
        let parsed = try paths.map(VolumePath.init)
        guard parsed.count >= 2, let target = parsed.last else { throw ValidationError("say at least one source, and a target") }
        try await VolumeSession.run(options.client) { session in
            let plan = TransferPlan(client: session.client)
            let transfers = try await plan.copies(of: Array(parsed.dropLast()), to: target, recursive: recursive, removing: moves)
            try await options.run(transfers, session, verb: moves ? "moved" : "copied")
        }
    }
}

struct VolumeMove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mv", abstract: "Like cp, and remove each source once its copy is durable.")
    @Argument(help: "Sources, then the target.") var paths: [String]
    @Flag(name: .shortAndLong, help: "Folders with all that is below them.") var recursive = false
    @OptionGroup var options: TransferOptions

    func run() async throws { try await VolumeCopy.run(paths, recursive, options, moves: true) }
}

struct VolumeSync: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sync", abstract: "Copy what is missing, of another size or newer, from a folder to a folder.",
        discussion: """
            Sides are local paths, VOLUME:path, or STORE:prefix, an object store of `roost store`. With a store the server copies, \
            compares by digest, and goes on after an interruption; it deletes nothing there.
            """)

    @Argument var source: String
    @Argument var target: String
    @Flag(help: "Remove from the target what the source does not have.") var delete = false
    @Option(help: "With a store: again so many seconds after each start.") var every: Int?
    @Option(help: "With a store: after jobs of this endpoint that completed.") var afterJobsOf: String?
    @Flag(help: "With a store: do not wait for its end.") var detach = false
    @OptionGroup var options: TransferOptions

    func run() async throws {
        let (from, to) = (try VolumePath(source), try VolumePath(target))
        if let sync = try await ServerSync(from, to, options.client.client) {
            guard !delete, !options.dryRun else { throw ValidationError("--delete and --dry-run are not for object stores") }
            return try await sync.run(every: every, after: afterJobsOf, detach: detach, options)
        }
        guard every == nil, afterJobsOf == nil, !detach else {
            throw ValidationError("--every, --after-jobs-of and --detach need an object store")
        }
        try await VolumeSession.run(options.client) { session in
            let (transfers, extra) = try await TransferPlan(client: session.client).difference(from, to)
            try await options.run(transfers, session, verb: "copied")
            guard delete else { return }
            for side in extra {
                if options.dryRun || !options.quiet { print("deleted \(side.shown)") }
                guard !options.dryRun else { continue }
                switch side {
                case .local(let path): try Files.remove(path)
                case .remote(let volume, let key): try await session.client.delete(volume, key)
                }
            }
        }
    }
}

struct VolumeFiles: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List files on a volume.")
    @Argument(help: "VOLUME or VOLUME:path, a folder or a pattern.") var path: String
    @Flag(name: .shortAndLong, help: "All below it.") var recursive = false
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let (volume, inside) = try VolumePath.volume(path)
        try await VolumeSession.run(options) { session in
            var listing = S3Client.Listing()
            if Glob.isPattern(inside) {
                let all = try await session.client.list(volume, prefix: Glob.base(inside))
                listing.items = all.items.filter { Glob.matches(inside, $0.key) }
            } else {
                listing = try await session.client.list(volume, prefix: inside, delimiter: recursive ? "" : "/")
                // A folder's name without its slash means what is in it.
                if listing.items.isEmpty, listing.prefixes == [inside + "/"], !recursive {
                    listing = try await session.client.list(volume, prefix: inside + "/", delimiter: "/")
                }
            }
            show(listing)
        }
    }

    private func show(_ listing: S3Client.Listing) {
        if options.json {
            let items = listing.items.map { item -> JSON in
                [
                    "key": .string(item.key), "size": .int(Int(item.size)), "etag": .string(item.etag),
                    "modified": .string(Timestamp.text(item.modified * 1_000)),
                ]
            }
            return print(JSON.object([.init("files", .array(items)), .init("folders", .strings(listing.prefixes))]).pretty)
        }
        let folders = listing.prefixes.map { ["", "", $0] }
        let files = listing.items.map { ["\($0.size)", String(Timestamp.text($0.modified * 1_000).prefix(19)), $0.key] }
        Terminal.table(["BYTES", "CHANGED", "NAME"], folders + files)
    }
}

struct VolumeRemove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove files from volumes.")
    @Argument(help: "VOLUME:path ..., patterns too.") var paths: [String]
    @Flag(name: .shortAndLong, help: "Folders with all that is below them.") var recursive = false
    @Flag(help: "Say what would be done, and do nothing.") var dryRun = false
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let parsed = try paths.map(VolumePath.init)
        try await VolumeSession.run(options) { session in
            var count = 0
            for path in parsed {
                guard case .remote = path else { throw ValidationError("rm is for volumes: VOLUME:path") }
                for file in try await TransferPlan(client: session.client).files(path, recursive: recursive) {
                    guard case .remote(let volume, let key) = file.side else { continue }
                    if dryRun { print("would remove \(volume):\(key)") } else { try await session.client.delete(volume, key) }
                    count += 1
                }
            }
            if options.json {
                print(JSON.object([.init("removed", .int(count))]).pretty)
            } else if !dryRun {
                print("removed \(count) files")
            }
        }
    }
}

struct VolumeCat: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "cat", abstract: "Write a file of a volume to stdout.")
    @Argument(help: "VOLUME:path") var path: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        guard case .remote(let volume, let key) = try VolumePath(path), !key.isEmpty else { throw ValidationError("say VOLUME:path") }
        try await VolumeSession.run(options) { session in
            let response = try await session.client.send(.GET, volume, key)
            for try await piece in response.body { try Files.write(Array(buffer: piece), to: 1, path: "stdout") }
        }
    }
}

struct VolumeUsage: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "du", abstract: "Add up files: one line for each folder right below a path.")
    @Argument(help: "VOLUME or VOLUME:path") var path: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let (volume, inside) = try VolumePath.volume(path)
        let prefix = inside.isEmpty || inside.hasSuffix("/") ? inside : inside + "/"
        try await VolumeSession.run(options) { session in
            var totals: [String: (files: Int, bytes: Int64)] = [:]
            for item in try await session.client.list(volume, prefix: prefix).items {
                let rest = item.key.dropFirst(prefix.count)
                let name = rest.firstIndex(of: "/").map { String(rest[...$0]) } ?? "."
                for each in Set([name, "total"]) {
                    totals[each, default: (0, 0)].files += 1
                    totals[each, default: (0, 0)].bytes += item.size
                }
            }
            let names = totals.keys.filter { $0 != "total" }.sorted() + ["total"]
            if options.json {
                return print(
                    JSON.object(
                        names.map { name in
                            .init(name, ["files": .int(totals[name]?.files ?? 0), "bytes": .int(Int(totals[name]?.bytes ?? 0))])
                        }
                    ).pretty)
            }
            Terminal.table(
                ["BYTES", "SIZE", "FILES", "NAME"],
                names.map { name in
                    let (files, bytes) = totals[name] ?? (0, 0)
                    return ["\(bytes)", Progress.text(bytes), "\(files)", name]
                })
        }
    }
}
