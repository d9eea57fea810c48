import Crypto
import Disk
import NIOCore
import Resource
import S3

/// Where the files of a model come from: a folder of a store or volume, or a hub that speaks Hugging Face's API.
struct ModelSource: Sendable {
    /// A file to be fetched, and what it must be.
    struct Wanted: Sendable {
        enum Digest: Sendable {
            case sha256(String)
            /// Git's object id: SHA-1 over a head and the content.
            case gitBlob(String)
            case none
        }

        var path: String
        var size: Int64
        var digest: Digest
        /// Of an object.
        var item: S3Client.Item?
    }

    let reference: ModelReference
    let places: ObjectPlaces
    let remote: RemoteFile
    /// Without a slash at its end.
    let hub: String
    let token: String?

    /// The name of the snapshot, and its files.
    func list() async throws -> (snapshot: String, files: [Wanted]) {
        let (snapshot, files) = try await listed()
        guard !files.isEmpty else { throw RoostError(.notFound, "model \(reference.text) has no files") }
        for file in files {
            let parts = file.path.split(separator: "/", omittingEmptySubsequences: false)
            guard !file.path.isEmpty, parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.count <= 255 }),
                !file.path.utf8.contains(0)
            else { throw RoostError(.invalid, "model \(reference.text) has a file called '\(file.path.prefix(120))', which is no path") }
        }
        return (snapshot, files)
    }

    private func listed() async throws -> (snapshot: String, files: [Wanted]) {
        switch reference {
        case .hub(let organization, let name, let revision):
            return try await repository("\(organization)/\(name)", revision)
        case .folder(let name, let path):
            let (place, prefix) = try folder(name, path)
            let items = try await place.client.list(place.bucket, prefix: prefix).items.filter { !$0.key.hasSuffix("/") }
            var hash = SHA256()
            var files: [Wanted] = []
            for item in items {
                hash.update(data: Array("\(item.key)\n\(item.size)\n\(item.etag)\n".utf8))
                files.append(Wanted(path: String(item.key.dropFirst(prefix.count)), size: item.size, digest: .none, item: item))
            }
            return (String(Signature.text(hash.finalize()).prefix(40)), files)
        }
    }

    private func folder(_ name: String, _ path: String) throws -> (ObjectPlace, prefix: String) {
        guard let name = ObjectPlace.Name(name) else { throw RoostError(.invalid, "model \(reference.text): no such place") }
        let place = try places.place(name)
        return (place, place.key(path) + "/")
    }

    /// `GET /api/models/ORG/NAME/revision/REF?blobs=true`: commit, and of each file size and digest.
    private func repository(_ name: String, _ revision: String) async throws -> (snapshot: String, files: [Wanted]) {
        var bytes: [UInt8] = []
        try await remote.read("\(hub)/api/models/\(name)/revision/\(revision)?blobs=true", headers: headers) { piece in
            guard bytes.count < 64 << 20 else { throw RoostError(.invalid, "the hub's description of \(name) has no end") }
            bytes += piece.readableBytesView
        }
        guard let json = try? JSONReader.parse(bytes), let commit = json["sha"]?.string, commit.utf8.count >= 7,
            commit.allSatisfy(\.isHexDigit)
        else {
            throw RoostError(.unavailable, "the hub \(hub) does not describe \(name) as Hugging Face's does")
        }
        let files = (json["siblings"]?.array ?? []).compactMap { entry -> Wanted? in
            guard let path = entry["rfilename"]?.string else { return nil }
            let large = entry["lfs"]?["sha256"]?.string
            let size = entry["lfs"]?["size"]?.int ?? entry["size"]?.int ?? -1
            return Wanted(
                path: path, size: Int64(size), digest: large.map { .sha256($0) } ?? entry["blobId"]?.string.map { .gitBlob($0) } ?? .none)
        }
        return (commit, files)
    }

    private var headers: [(String, String)] { token.map { [("authorization", "Bearer \($0)")] } ?? [] }

    /// Reads a file of the model.
    func read(_ file: Wanted, snapshot: String, _ take: (ByteBuffer) async throws -> Void) async throws {
        switch reference {
        case .hub(let organization, let name, _):
            let path = S3Client.encode(file.path, keepingSlash: true)
            try await remote.read("\(hub)/\(organization)/\(name)/resolve/\(snapshot)/\(path)", headers: headers, take)
        case .folder(let name, let path):
            let (place, _) = try folder(name, path)
            guard let item = file.item else { return }
            try await place.client.read(place.bucket, item.key, size: item.size, etag: item.etag, take)
        }
    }
}
