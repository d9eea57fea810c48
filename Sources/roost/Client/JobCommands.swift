import ArgumentParser
import NIOHTTP1
import Resource

/// `roost run`: submits a job and waits, saying meanwhile where it stands.
struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Send a job and wait for its output.",
        discussion: "Prints the output on stdout. Exit code 0: COMPLETED; 1: refused or ended otherwise; 2: server not reached.")

    @Argument(help: "Endpoint id.") var endpoint: String
    @Argument(help: "The input as a JSON object, or a whole request with 'input'.") var input: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let client = options.client
        let value: JSON
        do throws(JSONReader.Failure) { value = try JSONReader.parse(input) } catch { throw ValidationError(error.description) }
        let body: JSON = value["input"]?.members == nil ? .object([.init("input", value)]) : value
        let base = "/v2/" + ServerClient.encode(endpoint)
        let submitted = try await client.call(.POST, base + "/run", body: body)
        guard let id = submitted["id"]?.string else { throw ExitCode(1) }
        let job = try await wait(for: id, base: base, client: client)
        if options.json {
            print(job.pretty)
        } else if let output = job["output"] {
            print(output.string ?? output.pretty)
        }
        guard job["status"]?.string == JobStatus.completed.rawValue else {
            Terminal.error("job \(id) is \(Terminal.cell(job["status"])): \(Terminal.cell(job["error"]))")
            throw ExitCode(1)
        }
    }

    private func wait(for id: String, base: String, client: ServerClient) async throws -> JSON {
        let begin = ContinuousClock.now
        while true {
            let job = try await client.call(.GET, "\(base)/status-sync/\(id)?wait=1000")
            let status = job["status"]?.string.flatMap(JobStatus.init)
            if status?.isTerminal == true {
                Terminal.clearStatus()
                return job
            }
            let seconds = begin.duration(to: .now).components.seconds
            let reason = job["reason"]?.string.map { ": \($0)" } ?? job["workerId"]?.string.map { " on worker \($0)" } ?? ""
            Terminal.status("\(seconds) s  \(id)  \(Terminal.cell(job["status"]))\(reason)")
        }
    }
}

struct JobCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "job", abstract: "Jobs of an endpoint.",
        subcommands: [JobList.self, JobGet.self, JobCreate.self, JobDelete.self, JobRetry.self, JobPurge.self])
}

struct JobList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Recent jobs, newest first.")
    @Argument var endpoint: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let answer = try await options.client.call(.GET, "/v2/\(ServerClient.encode(endpoint))/requests")
        if options.json { return print(answer.pretty) }
        let rows = (answer["requests"]?.array ?? []).map { job in
            ["id", "status", "delayTime", "executionTime", "workerId"].map { Terminal.cell(job[$0]) }
        }
        Terminal.table(["ID", "STATUS", "DELAY MS", "EXECUTION MS", "WORKER"], rows)
    }
}

struct JobGet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "get", abstract: "One job with its output.")
    @Argument var endpoint: String
    @Argument var job: String
    @OptionGroup var options: ClientOptions

    func run() async throws { try await JobCall.print(.GET, endpoint, "status/\(ServerClient.encode(job))", options) }
}

struct JobCreate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "create", abstract: "Queue a job without waiting for it.")
    @Argument var endpoint: String
    @Argument(help: "The request: {\"input\": {...}}.") var request: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let body: JSON
        do throws(JSONReader.Failure) { body = try JSONReader.parse(request) } catch { throw ValidationError(error.description) }
        try await JobCall.print(.POST, endpoint, "run", options, body: body)
    }
}

struct JobDelete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "delete", abstract: "Cancel a job.", aliases: ["cancel"])
    @Argument var endpoint: String
    @Argument var job: String
    @OptionGroup var options: ClientOptions

    func run() async throws { try await JobCall.print(.POST, endpoint, "cancel/\(ServerClient.encode(job))", options) }
}

struct JobRetry: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "retry", abstract: "Queue a failed job anew.")
    @Argument var endpoint: String
    @Argument var job: String
    @OptionGroup var options: ClientOptions

    func run() async throws { try await JobCall.print(.POST, endpoint, "retry/\(ServerClient.encode(job))", options) }
}

struct JobPurge: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "purge", abstract: "Cancel all queued jobs.")
    @Argument var endpoint: String
    @OptionGroup var options: ClientOptions

    func run() async throws { try await JobCall.print(.POST, endpoint, "purge-queue", options) }
}

enum JobCall {
    static func print(_ method: HTTPMethod, _ endpoint: String, _ operation: String, _ options: ClientOptions, body: JSON? = nil)
        async throws
    {
        Swift.print(try await options.client.call(method, "/v2/\(ServerClient.encode(endpoint))/\(operation)", body: body).pretty)
    }
}
