import ArgumentParser
import Resource

/// A sync with an object store on one side, which the server runs: the store's secret stays there.
struct ServerSync {
    private let client: ServerClient
    private let source: String
    private let target: String

    /// How often the server is asked how far it is.
    private static let pause = Duration.milliseconds(200)

    /// Nil where neither side is an object store.
    init?(_ from: VolumePath, _ to: VolumePath, _ client: ServerClient) async throws {
        guard case .remote(let fromName, let fromPath) = from, case .remote(let toName, let toPath) = to else {
            // A local side goes through the volume door.
            return nil
        }
        let stores = Set(try await client.call(.GET, ObjectStoreResource.path).array?.compactMap { $0["name"]?.string } ?? [])
        guard stores.contains(fromName) || stores.contains(toName) else { return nil }
        let volumes = try await client.call(.GET, "/v1/networkvolumes").array ?? []
        func side(_ name: String, _ path: String) throws -> String {
            let matching = volumes.filter { $0["id"]?.string == name || $0["name"]?.string == name }
            let rest = path.isEmpty ? "" : "/" + path
            if stores.contains(name) {
                guard matching.isEmpty else { throw ValidationError("'\(name)' is an object store and a volume: use the volume's id") }
                return "store:\(name)\(rest)"
            }
            guard matching.count == 1, let id = matching[0]["id"]?.string else {
                throw ValidationError("there is no volume or object store '\(name)'")
            }
            return "volume:\(id)\(rest)"
        }
        (source, target, self.client) = (try side(fromName, fromPath), try side(toName, toPath), client)
    }

    func run(every: Int?, after: String?, detach: Bool, _ options: TransferOptions) async throws {
        let body: JSON = .compact([
            "source": .string(source), "target": .string(target), "everySeconds": every.map { .int($0) },
            "afterEndpointId": after.map { .string($0) },
        ])
        var sync = try await client.call(.POST, SyncResource.path, body: body)
        let id = sync["id"]?.string ?? ""
        if detach || after != nil { return print(id) }
        while ["WAITING", "RUNNING"].contains(sync["status"]?.string) {
            if !options.quiet { Terminal.status(Self.line(sync)) }
            try await Task.sleep(for: Self.pause)
            sync = try await client.call(.GET, "\(SyncResource.path)/\(ServerClient.encode(id))")
        }
        Terminal.clearStatus()
        if !options.quiet { print(Self.line(sync)) }
        for error in sync["errors"]?.array ?? [] { Terminal.error(error.string ?? "") }
        if sync["status"]?.string != "COMPLETED" { throw ExitCode(1) }
    }

    /// `12 of 30 files copied (1.5 GiB of 4.0 GiB), 18 unchanged`
    private static func line(_ sync: JSON) -> String {
        func number(_ name: String) -> Int { sync[name]?.int ?? 0 }
        let failed = number("failedFiles") > 0 ? ", \(number("failedFiles")) failed" : ""
        return "\(number("copiedFiles")) of \(number("files")) files copied (\(Progress.text(Int64(number("copiedBytes")))) of "
            + "\(Progress.text(Int64(number("bytes"))))), \(number("unchangedFiles")) unchanged\(failed)"
    }
}

struct SyncResource: CommandResource {
    static let path = "/v1/syncs"
    static let fields = StoreSync.fields
    static let columns = [
        (title: "ID", member: "id"), (title: "SOURCE", member: "source"), (title: "TARGET", member: "target"),
        (title: "STATUS", member: "status"), (title: "RUNS", member: "runs"), (title: "COPIED", member: "copiedFiles"),
        (title: "UNCHANGED", member: "unchangedFiles"), (title: "FAILED", member: "failedFiles"),
    ]
}

/// Syncs are made by `roost volume sync`.
struct SyncCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sync", abstract: "Syncs between volumes and object stores that the server runs; 'volume sync' makes them.",
        subcommands: [ListCommand<SyncResource>.self, GetCommand<SyncResource>.self, DeleteCommand<SyncResource>.self])
}
