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
            ListCommand<ImageResource>.self, GetCommand<ImageResource>.self, ImageImport.self, DeleteCommand<ImageResource>.self,
        ])
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
