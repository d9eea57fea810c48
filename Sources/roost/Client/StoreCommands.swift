import ArgumentParser
import Glibc
import Resource

struct ObjectStoreResource: CommandResource {
    static let path = "/v1/objectstores"
    static let fields = ObjectStore.fields
    static let columns = [
        (title: "NAME", member: "name"), (title: "ENDPOINT", member: "endpointUrl"), (title: "BUCKET", member: "bucketName"),
        (title: "PREFIX", member: "prefix"), (title: "REGION", member: "region"), (title: "ACCESS KEY", member: "accessId"),
    ]
}

struct StoreCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store", abstract: "Object stores: S3-compatible storage of your own, by name.",
        subcommands: [
            ListCommand<ObjectStoreResource>.self, GetCommand<ObjectStoreResource>.self, StoreAdd.self, StoreCheck.self,
            DeleteCommand<ObjectStoreResource>.self,
        ])
}

/// Adds a store and checks it. The secret comes from the environment, stdin or a prompt: arguments are there for all to see.
struct StoreAdd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Add an object store and check it by a round trip.",
        discussion: "The secret is taken from ROOST_STORE_SECRET, else from stdin (the first line), else asked for.")

    @Argument(help: "What endpoints and jobs call it.") var name: String
    @Option(help: "https://HOST[:PORT]") var endpoint: String
    @Option(help: "The bucket.") var bucket: String
    @Option(help: "In front of every key.") var prefix = ""
    @Option(help: "For the signature.") var region = "us-east-1"
    @Option(help: "Access key id.") var accessKey: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let secret = try Self.secret()
        let body: JSON = [
            "name": .string(name), "endpointUrl": .string(endpoint), "bucketName": .string(bucket), "prefix": .string(prefix),
            "region": .string(region), "accessId": .string(accessKey), "accessSecret": .string(secret),
        ]
        let store = try await options.client.call(.POST, ObjectStoreResource.path, body: body)
        ObjectStoreResource.show(store, asJSON: options.json)
        try await StoreCheck.check(name, options)
    }

    private static func secret() throws -> String {
        if let secret = Environment["ROOST_STORE_SECRET"] { return secret }
        let isTerminal = isatty(0) == 1
        var before = termios()
        if isTerminal {
            Terminal.prompt("secret access key: ")
            tcgetattr(0, &before)
            var silent = before
            silent.c_lflag &= ~tcflag_t(ECHO)
            tcsetattr(0, TCSAFLUSH, &silent)
        }
        defer {
            if isTerminal {
                tcsetattr(0, TCSAFLUSH, &before)
                Terminal.prompt("\n")
            }
        }
        guard let line = readLine(), !line.isEmpty else { throw ValidationError("no secret: set ROOST_STORE_SECRET, or give it on stdin") }
        return line
    }
}

struct StoreCheck: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "check", abstract: "Write, read and remove a small object.")
    @Argument var name: String
    @OptionGroup var options: ClientOptions

    func run() async throws { try await Self.check(name, options) }

    static func check(_ name: String, _ options: ClientOptions) async throws {
        let answer = try await options.client.call(.POST, "\(ObjectStoreResource.path)/\(ServerClient.encode(name))/check")
        if answer["ok"]?.bool == true {
            if !options.json { print("ok: wrote, read and removed an object") }
            return
        }
        Terminal.error("store \(name) does not work (\(Terminal.cell(answer["step"]))): \(Terminal.cell(answer["error"]))")
        throw ExitCode(1)
    }
}
