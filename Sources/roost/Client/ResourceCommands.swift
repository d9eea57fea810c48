import ArgumentParser
import NIOHTTP1
import Resource

/// A REST resource of the server, as the five usual commands see it.
protocol CommandResource: Sendable {
    static var path: String { get }
    static var fields: [Field] { get }
    /// Column title and member.
    static var columns: [(title: String, member: String)] { get }
}

extension CommandResource {
    static func show(_ value: JSON, asJSON: Bool) {
        if asJSON { return print(value.pretty) }
        let values = value.array ?? [value]
        Terminal.table(columns.map(\.title), values.map { row in columns.map { Terminal.cell(row[$0.member]) } })
    }

    static var fieldHelp: String {
        "Fields, as NAME=VALUE; lists with commas, maps as NAME.KEY=VALUE:\n"
            + fields.map { "  \($0.name)\($0.isRequired ? " (required)" : ""): \($0.summary); \($0.allowed)" }.joined(separator: "\n")
    }

    /// The JSON of `NAME=VALUE` words.
    static func body(_ words: [String]) throws -> JSON {
        var members: [JSON.Member] = []
        for word in words {
            guard let equals = word.firstIndex(of: "=") else { throw ValidationError("'\(word)' is not NAME=VALUE") }
            let (path, text) = (String(word[..<equals]), String(word[word.index(after: equals)...]))
            let parts = path.split(separator: ".", maxSplits: 1).map(String.init)
            guard let name = parts.first, let field = fields.first(where: { $0.name == name }) else {
                throw ValidationError("there is no field '\(path)'; known: \(fields.map(\.name).joined(separator: ", "))")
            }
            try add(field, key: parts.count > 1 ? parts[1] : nil, text: text, to: &members)
        }
        return .object(members)
    }

    private static func add(_ field: Field, key: String?, text: String, to members: inout [JSON.Member]) throws {
        let value: JSON
        switch field.kind {
        case .integer: value = .number(text)
        case .boolean: value = .bool(text == "true")
        case .text, .choice: value = .string(text)
        case .texts: value = .strings(text.isEmpty ? [] : text.split(separator: ",").map(String.init))
        case .map:
            guard let key else { throw ValidationError("say \(field.name).KEY=VALUE") }
            let old = members.first { $0.name(is: field.name) }?.value.members ?? []
            members.removeAll { $0.name(is: field.name) }
            value = .object(old + [.init(key, .string(text))])
        }
        if case .integer = field.kind, Int(text) == nil { throw ValidationError("\(field.name): '\(text)' is not an integer") }
        if case .boolean = field.kind, text != "true", text != "false" { throw ValidationError("\(field.name): say true or false") }
        members.append(.init(field.name, value))
    }
}

extension JSON.Member {
    fileprivate func name(is name: String) -> Bool { key == name }
}

struct ListCommand<Subject: CommandResource>: AsyncParsableCommand {
    static var configuration: CommandConfiguration { .init(commandName: "list", abstract: "List all.") }
    @OptionGroup var options: ClientOptions

    func run() async throws { Subject.show(try await options.client.call(.GET, Subject.path), asJSON: options.json) }
}

struct GetCommand<Subject: CommandResource>: AsyncParsableCommand {
    static var configuration: CommandConfiguration { .init(commandName: "get", abstract: "Show one.") }
    @Argument var id: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let value = try await options.client.call(.GET, Subject.path + "/" + ServerClient.encode(id))
        print(value.pretty)
    }
}

struct CreateCommand<Subject: CommandResource>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        .init(commandName: "create", abstract: "Create one.", discussion: Subject.fieldHelp)
    }
    @Argument(help: "NAME=VALUE ...") var fields: [String] = []
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let value = try await options.client.call(.POST, Subject.path, body: Subject.body(fields))
        Subject.show(value, asJSON: options.json)
        if !options.json, let key = value["key"]?.string { print("key, shown once: \(key)") }
        if !options.json, let id = value["accessKeyId"]?.string, let secret = value["secretAccessKey"]?.string {
            print("the secret is shown once:\nexport AWS_ACCESS_KEY_ID=\(id)\nexport AWS_SECRET_ACCESS_KEY=\(secret)")
        }
    }
}

struct UpdateCommand<Subject: CommandResource>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        .init(commandName: "update", abstract: "Change one.", discussion: Subject.fieldHelp)
    }
    @Argument var id: String
    @Argument(help: "NAME=VALUE ...") var fields: [String]
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let path = Subject.path + "/" + ServerClient.encode(id)
        Subject.show(try await options.client.call(.PATCH, path, body: Subject.body(fields)), asJSON: options.json)
    }
}

struct DeleteCommand<Subject: CommandResource>: AsyncParsableCommand {
    static var configuration: CommandConfiguration { .init(commandName: "delete", abstract: "Delete one.", aliases: ["remove"]) }
    @Argument var id: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        _ = try await options.client.call(.DELETE, Subject.path + "/" + ServerClient.encode(id))
        if options.json { print("{}") } else { print("deleted \(id)") }
    }
}

struct EndpointResource: CommandResource {
    static let path = "/v1/endpoints"
    static let fields = Endpoint.fields
    static let columns = [
        (title: "ID", member: "id"), (title: "NAME", member: "name"), (title: "TEMPLATE", member: "templateId"),
        (title: "MIN", member: "workersMin"), (title: "MAX", member: "workersMax"), (title: "SCALER", member: "scalerType"),
        (title: "VOLUMES", member: "networkVolumeIds"), (title: "VERSION", member: "version"),
    ]
}

struct TemplateResource: CommandResource {
    static let path = "/v1/templates"
    static let fields = Template.fields
    static let columns = [
        (title: "ID", member: "id"), (title: "NAME", member: "name"), (title: "IMAGE", member: "imageName"),
        (title: "DISK GB", member: "containerDiskInGb"),
    ]
}

struct VolumeResource: CommandResource {
    static let path = "/v1/networkvolumes"
    static let fields = NetworkVolume.fields(minimumSize: 1)
    static let columns = [
        (title: "ID", member: "id"), (title: "NAME", member: "name"), (title: "GB", member: "size"),
        (title: "DATA CENTER", member: "dataCenterId"), (title: "STATUS", member: "status"), (title: "USED", member: "usedBytes"),
        (title: "MOUNTED BY", member: "mountedBy"),
    ]
}

struct KeyResource: CommandResource {
    static let path = "/v1/apikeys"
    static let fields = APIKey.fields
    static let columns = [
        (title: "ID", member: "id"), (title: "NAME", member: "name"), (title: "SCOPE", member: "scope"),
        (title: "CREATED", member: "createdAt"),
    ]
}

struct S3KeyResource: CommandResource {
    static let path = "/v1/s3keys"
    static let fields = S3Key.fields
    static let columns = [
        (title: "ACCESS KEY", member: "accessKeyId"), (title: "NAME", member: "name"), (title: "VOLUMES", member: "volumeIds"),
        (title: "PREFIXES", member: "prefixes"), (title: "READ ONLY", member: "readOnly"), (title: "BUCKETS", member: "manageBuckets"),
        (title: "EXPIRES", member: "expiresAt"),
    ]
}

struct ImageResource: CommandResource {
    static let path = "/v1/images"
    static let fields: [Field] = []
    static let columns = [
        (title: "ID", member: "id"), (title: "NAME", member: "name"), (title: "BYTES", member: "bytes"),
        (title: "CREATED", member: "createdAt"),
    ]
}

struct EndpointCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "endpoint", abstract: "Endpoints: URLs that take jobs.",
        subcommands: [
            ListCommand<EndpointResource>.self, GetCommand<EndpointResource>.self, CreateCommand<EndpointResource>.self,
            UpdateCommand<EndpointResource>.self, DeleteCommand<EndpointResource>.self,
        ])
}

struct TemplateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "template", abstract: "Templates: what workers run.",
        subcommands: [
            ListCommand<TemplateResource>.self, GetCommand<TemplateResource>.self, CreateCommand<TemplateResource>.self,
            UpdateCommand<TemplateResource>.self, DeleteCommand<TemplateResource>.self,
        ])
}

struct VolumeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "volume", abstract: "Network volumes: permanent disks shared by workers.",
        subcommands: [
            ListCommand<VolumeResource>.self, GetCommand<VolumeResource>.self, CreateCommand<VolumeResource>.self,
            UpdateCommand<VolumeResource>.self, DeleteCommand<VolumeResource>.self, VolumeFiles.self, VolumeCopy.self, VolumeMove.self,
            VolumeRemove.self, VolumeCat.self, VolumeUsage.self, VolumeSync.self,
        ])
}

struct S3KeyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "s3key", abstract: "Access keys of the S3 door.",
        subcommands: [
            ListCommand<S3KeyResource>.self, GetCommand<S3KeyResource>.self, CreateCommand<S3KeyResource>.self,
            DeleteCommand<S3KeyResource>.self,
        ])
}

struct KeyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key", abstract: "API keys.",
        subcommands: [
            ListCommand<KeyResource>.self, GetCommand<KeyResource>.self, CreateCommand<KeyResource>.self,
            DeleteCommand<KeyResource>.self,
        ])
}
