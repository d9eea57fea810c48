import ArgumentParser
import Resource

struct ModelResource: CommandResource {
    static let path = "/v1/models"
    static let fields: [Field] = []
    static let columns = [
        (title: "ID", member: "id"), (title: "REFERENCE", member: "reference"), (title: "FILES", member: "files"),
        (title: "BYTES", member: "bytes"),
        (title: "SNAPSHOT", member: "snapshot"), (title: "USED", member: "usedAt"),
    ]
}

struct ModelCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "model", abstract: "Models in the server's cache, which workers find at /runpod-volume/huggingface-cache/hub.",
        subcommands: [ListCommand<ModelResource>.self, ModelAdd.self, ModelVerify.self, DeleteCommand<ModelResource>.self])
}

struct ModelAdd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Fetch a model, or what its reference points to now.",
        discussion: "A token for the hub is taken from HF_TOKEN.")
    @Argument(help: "volume:ID/path, store:NAME/path, hf:ORG/NAME[@REF] or the hub's URL.") var reference: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let body: JSON = .compact(["reference": .string(reference), "token": Environment["HF_TOKEN"].map { .string($0) }])
        ModelResource.show(try await options.client.call(.POST, ModelResource.path, body: body), asJSON: options.json)
    }
}

struct ModelVerify: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "verify", abstract: "Read all of a model and compare digests.")
    @Argument var id: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let answer = try await options.client.call(.POST, "\(ModelResource.path)/\(ServerClient.encode(id))/verify")
        for path in answer["broken"]?.array ?? [] { Terminal.error("\(path.string ?? "") is not what it was") }
        guard answer["ok"]?.bool == true else { throw ExitCode(1) }
        print("ok")
    }
}
