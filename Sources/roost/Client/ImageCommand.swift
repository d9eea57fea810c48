import ArgumentParser
import AsyncHTTPClient
import Disk
import Glibc
import NIOCore
import Resource

struct ImageCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "image", abstract: "Images in the server's cache.",
        subcommands: [
            ListCommand<ImageResource>.self, GetCommand<ImageResource>.self, ImagePull.self, ImageImport.self, ImageInspect.self,
            DeleteCommand<ImageResource>.self, ImagePrune.self,
        ])
}

/// Has the server pull an image, showing how far it is.
struct ImagePull: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "pull", abstract: "Pull an image from its registry.")
    @Argument var name: String
    @Option(help: "Id of registry credentials (/v1/containerregistryauth).") var auth: String?
    @OptionGroup var options: ClientOptions

    private static let pause = Duration.milliseconds(500)

    func run() async throws {
        let client = options.client
        let watching = Task {
            while (try? await Task.sleep(for: Self.pause)) != nil {
                let pulls = try await client.call(.GET, "/v1/imagepulls").array ?? []
                if let own = pulls.first(where: { $0["name"]?.string == Image.normalize(name) }), let progress = own["progress"]?.string {
                    Terminal.status("pulling \(name): \(progress)")
                }
            }
        }
        defer { watching.cancel() }
        let body: JSON = .compact(["name": .string(name), "containerRegistryAuthId": auth.map { .string($0) }])
        let image = try await client.call(.POST, "/v1/images/pull", body: body)
        Terminal.clearStatus()
        ImageResource.show(image, asJSON: options.json)
    }
}

struct ImageInspect: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "All about an image; with --check, whether its registry has another one under its name.")
    @Argument var name: String
    @Flag(help: "Ask the registry.") var check = false
    @Option(help: "Id of registry credentials.") var auth: String?
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let query = check ? "?check=true" + (auth.map { "&auth=" + ServerClient.encode($0) } ?? "") : ""
        print(try await options.client.call(.GET, "\(ImageResource.path)/\(ServerClient.encode(name))\(query)").pretty)
    }
}

struct ImagePrune: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Remove the images that no template and no worker uses.")
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let answer = try await options.client.call(.POST, "\(ImageResource.path)/prune")
        if options.json { return print(answer.pretty) }
        for name in answer["removed"]?.array ?? [] { print("removed \(name.string ?? "")") }
        print("\(Progress.text(Int64(answer["bytes"]?.int ?? 0))) free now")
    }
}

/// Sends an image to the server: an archive file, or an OCI layout folder.
struct ImageImport: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Import an OCI layout (folder or archive), a docker-archive, or a root filesystem tar.")

    @Argument(help: "What it is to be called, for example team/worker:1.") var name: String
    @Argument(help: "File or folder.") var path: String
    @OptionGroup var options: ClientOptions

    func run() async throws {
        var archive = path
        if Files.isDirectory(path) {
            archive = (Environment["TMPDIR"] ?? "/tmp") + "/roost-import-\(getpid()).tar"
            try await Command.run("tar", ["--create", "--file", archive, "--directory", path, "."])
        }
        defer { if archive != path { unlink(archive) } }
        let size = try Files.withDescriptor(archive, flags: O_RDONLY) { lseek($0, 0, SEEK_END) }
        var request = options.client.request(.POST, "/v1/images/import?name=" + ServerClient.encode(name))
        request.body = .stream(FileChunks(path: archive), length: .known(Int64(size)))
        Terminal.status("importing \(name), \(size >> 20) MiB ...")
        let image = try await options.client.send(request)
        Terminal.clearStatus()
        ImageResource.show(image, asJSON: options.json)
    }
}

/// A file as a sequence of buffers.
struct FileChunks: AsyncSequence, Sendable {
    let path: String

    struct AsyncIterator: AsyncIteratorProtocol {
        let path: String
        var descriptor: Int32 = -1

        mutating func next() async throws -> ByteBuffer? {
            if descriptor < 0 { descriptor = try check(open(path, O_RDONLY | O_CLOEXEC), "open", path) }
            var chunk = [UInt8](repeating: 0, count: 1 << 20)
            let count = try check(Int32(clamping: read(descriptor, &chunk, chunk.count)), "read", path)
            guard count > 0 else {
                close(descriptor)
                return nil
            }
            return ByteBuffer(bytes: chunk[..<Int(count)])
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(path: path) }
}
