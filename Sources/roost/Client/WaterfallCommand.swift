import ArgumentParser
import Resource

/// How a worker's last start went, step by step, and what was read ahead for it.
struct WorkerWaterfall: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "waterfall",
        abstract: "Steps of a worker's last start and what was read ahead for it; of an endpoint, how its starts went.")
    @Argument(help: "A worker, also one that is gone, or an endpoint.") var id: String
    @Argument(help: "A worker of the endpoint.") var worker: String?
    @Flag(help: "All files that are read ahead, not the largest ten alone.") var files = false
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let endpoints = try await options.client.call(.GET, "/v1/endpoints").array ?? []
        let isEndpoint = worker == nil && endpoints.contains { $0["id"]?.string == id }
        if isEndpoint { try await showEndpoint() } else { try await showWorker(worker ?? id) }
    }

    private func showEndpoint() async throws {
        let starts = try await options.client.call(.GET, "/v1/endpoints/\(ServerClient.encode(id))/starts")
        if options.json { return print(starts.pretty) }
        let rows = StartRecord.Kind.allCases.map { kind in
            [kind.rawValue] + ["count", "p50", "p90", "p98"].map { Terminal.cell(starts[kind.rawValue]?[$0]) }
        }
        Terminal.table(["START", "COUNT", "P50 MS", "P90 MS", "P98 MS"], rows)
        try await showPages(of: id)
    }

    private func showWorker(_ worker: String) async throws {
        let answer = try await options.client.call(.GET, "/v1/workers/\(ServerClient.encode(worker))/starts")
        let start = answer["starts"]?.array?.first ?? .null
        if options.json { return print(start.pretty) }
        var before = 0.0
        let rows = (start["steps"]?.array ?? []).map { step in
            let at = step["ms"]?.double ?? 0
            defer { before = at }
            return [Terminal.cell(step["step"]), Terminal.cell(step["ms"]), String(Double(Int((at - before) * 100)) / 100)]
        }
        print(
            "\(Terminal.cell(start["kind"])) start at \(Terminal.cell(start["at"])), \(Terminal.cell(start["queuedMs"])) ms after the job came"
        )
        Terminal.table(["STEP", "AT MS", "TOOK MS"], rows)
        guard let ahead = start["warmPages"] else { return }
        print(
            """

            read ahead beside it: \(Self.size(ahead["coldBytes"])) from the disk in \(Terminal.cell(ahead["ms"])) ms, of \
            \(Self.size(ahead["bytes"])) in \(Terminal.cell(ahead["files"])) files; \(Terminal.cell(ahead["changedFiles"])) had changed
            """)
        try await showPages(of: answer["endpointId"]?.string ?? "")
    }

    /// What is read ahead of an endpoint's next start.
    private func showPages(of endpoint: String) async throws {
        let pages = try await options.client.call(.GET, "/v1/endpoints/\(ServerClient.encode(endpoint))/warmpages")
        guard let list = pages["files"]?.array, !list.isEmpty else { return }
        print("\nread ahead of the next start: \(Self.size(pages["bytes"])) in \(list.count) files")
        let shown = files ? list : Array(list.sorted { ($0["bytes"]?.int ?? 0) > ($1["bytes"]?.int ?? 0) }.prefix(10))
        let rows = shown.map { file in
            let source = String(Terminal.cell(file["source"]).prefix(24))
            return [Terminal.cell(file["bytes"]), Terminal.cell(file["size"]), source, Terminal.cell(file["path"])]
        }
        Terminal.table(["READ", "OF BYTES", "SOURCE", "FILE"], rows)
    }

    private static func size(_ bytes: JSON?) -> String {
        let kib = (bytes?.int ?? 0) >> 10
        return kib < 10_240 ? "\(kib) KiB" : "\(kib >> 10) MiB"
    }
}
