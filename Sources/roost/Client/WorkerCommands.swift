import ArgumentParser
import Resource

struct WorkerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker", abstract: "Workers of an endpoint.",
        subcommands: [WorkerList.self, WorkerGet.self, WorkerDelete.self, WorkerWaterfall.self])
}

struct WorkerList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Workers that exist now.")
    @Argument var endpoint: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let list = try await options.client.call(.GET, "/v1/endpoints/\(ServerClient.encode(endpoint))/workers")
        if options.json { return print(list.pretty) }
        let members = ["id", "status", "dataCenterId", "networkVolumeId", "version", "startMs", "readyMs"]
        let rows = (list.array ?? []).map { worker in members.map { Terminal.cell(worker[$0]) } }
        Terminal.table(["ID", "STATUS", "DATA CENTER", "VOLUME", "VERSION", "START MS", "READY MS"], rows)
    }
}

struct WorkerGet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "get", abstract: "One worker.")
    @Argument var endpoint: String
    @Argument var worker: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let path = "/v1/endpoints/\(ServerClient.encode(endpoint))/workers/\(ServerClient.encode(worker))"
        print(try await options.client.call(.GET, path).pretty)
    }
}

struct WorkerDelete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete", abstract: "Stop a worker once its job is done.", aliases: ["stop"])
    @Argument var endpoint: String
    @Argument var worker: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let path = "/v1/endpoints/\(ServerClient.encode(endpoint))/workers/\(ServerClient.encode(worker))"
        _ = try await options.client.call(.DELETE, path)
        print("stopping \(worker)")
    }
}

/// `roost logs`: what a worker wrote to stdout and stderr.
struct Logs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show a worker's log.")
    @Argument var endpoint: String
    @Argument var worker: String
    @Option(help: "How many lines from the end.") var tail = 100
    @Flag(name: .shortAndLong, help: "Go on until the worker has ended.") var follow = false
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let path = "/v1/endpoints/\(ServerClient.encode(endpoint))/workers/\(ServerClient.encode(worker))/logs?tail=\(tail)"
        guard follow else {
            let answer = try await options.client.call(.GET, path)
            for line in answer["lines"]?.array ?? [] { show(line) }
            return
        }
        let response = try await options.client.open(options.client.request(.GET, path + "&follow=true"))
        var pending = ""
        for try await buffer in response.body {
            pending += String(buffer: buffer)
            while let end = pending.firstIndex(of: "\n") {
                let line = pending[..<end]
                pending = String(pending[pending.index(after: end)...])
                if line.hasPrefix("data: "), let value = try? JSONReader.parse(String(line.dropFirst(6))) { show(value) }
            }
        }
    }

    private func show(_ line: JSON) {
        if options.json { return print(line.text) }
        print("\(Terminal.cell(line["ts"]))  \(line["line"]?.string ?? "")")
    }
}
