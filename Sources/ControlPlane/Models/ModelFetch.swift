import CLinux
import Crypto
import Disk
import Glibc
import NIOCore
import Resource
import S3

/// Brings one model into the cache: into a folder of its own, checked, synced, and put in its place by one rename.
struct ModelFetch: Sendable {
    let source: ModelSource
    /// The cache; models lie in it as the hub's libraries lay them out.
    let hub: String
    let staging: String
    let tell: @Sendable (_ total: Int64?, _ more: Int64) -> Void

    private static let parallel = 4

    func run(id: String, at now: Milliseconds) async throws -> Model {
        let (snapshot, wanted) = try await source.list()
        tell(wanted.reduce(0) { $0 &+ max(0, $1.size) }, 0)
        let work = "\(staging)/\(id)"
        try Files.makeDirectories(work, mode: 0o755)
        do {
            let files = try await fetch(wanted, snapshot, into: work)
            let model = Model(id: id, reference: source.reference.text, snapshot: snapshot, files: files, at: now)
            try await Blocking.run { try publish(work, model) }
            return model
        } catch {
            try? Files.remove(work)
            throw error
        }
    }

    private func fetch(_ wanted: [ModelSource.Wanted], _ snapshot: String, into work: String) async throws -> [Model.File] {
        try await withThrowingTaskGroup(of: Model.File.self) { group in
            var files: [Model.File] = []
            for (index, file) in wanted.enumerated() {
                if index >= Self.parallel, let done = try await group.next() { files.append(done) }
                group.addTask { try await fetch(file, snapshot, into: work) }
            }
            for try await done in group { files.append(done) }
            return files.sorted { $0.path < $1.path }
        }
    }

    private func fetch(_ file: ModelSource.Wanted, _ snapshot: String, into work: String) async throws -> Model.File {
        let path = "\(work)/\(file.path)"
        try Files.makeDirectories(Files.parent(of: path), mode: 0o755)
        let descriptor = try check(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644), "open", path)
        defer { close(descriptor) }
        let digest = RunningDigest(file)
        try await source.read(file, snapshot: snapshot) { piece in
            try digest.take(piece)
            tell(nil, Int64(piece.readableBytes))
            try await Blocking.run { try Files.write(Array(buffer: piece), to: descriptor, path: path) }
        }
        _ = try await Blocking.run { try check(fsync(descriptor), "fsync", path) }
        return try digest.finish()
    }

    /// Makes the fetched folder the snapshot, and the reference point to it.
    private func publish(_ work: String, _ model: Model) throws {
        let folder = "\(hub)/\(source.reference.folder)"
        let target = "\(folder)/snapshots/\(model.snapshot)"
        for name in ["snapshots", "refs"] { try Files.makeDirectories("\(folder)/\(name)", mode: 0o755) }
        try syncFolders(work)
        if Files.exists(target) {
            // The same snapshot once more: workers that have it mounted find one or the other at any moment.
            try checkRaw(cl_renameat2(AT_FDCWD, work, AT_FDCWD, target, UInt32(CL_RENAME_EXCHANGE)), "rename", target)
            // What it replaced is in the way of nothing: start-up empties the staging folder.
            try? Files.remove(work)
        } else {
            try check(rename(work, target), "rename", target)
        }
        try Files.syncDirectory(Files.parent(of: target))
        try Files.replace("\(folder)/refs/\(source.reference.revision)", with: Array(model.snapshot.utf8), mode: 0o644)
    }

    private func syncFolders(_ folder: String) throws {
        for name in try Files.names(in: folder) where Files.isDirectory(folder + "/" + name) { try syncFolders(folder + "/" + name) }
        try Files.syncDirectory(folder)
    }

    /// Hashes one file as it comes. One task at a time uses it.
    private final class RunningDigest: @unchecked Sendable {
        private let file: ModelSource.Wanted
        private var sha256 = SHA256()
        private var sha1 = Insecure.SHA1()
        private var size: Int64 = 0

        init(_ file: ModelSource.Wanted) {
            self.file = file
            sha1.update(data: Array("blob \(file.size)\0".utf8))
        }

        func take(_ piece: ByteBuffer) throws {
            size += Int64(piece.readableBytes)
            guard file.size < 0 || size <= file.size else {
                throw RoostError(.invalid, "\(file.path) is longer than its \(file.size) bytes")
            }
            piece.withUnsafeReadableBytes { sha256.update(bufferPointer: $0) }
            if case .gitBlob = file.digest { piece.withUnsafeReadableBytes { sha1.update(bufferPointer: $0) } }
        }

        func finish() throws -> Model.File {
            guard file.size < 0 || size == file.size else { throw RoostError(.invalid, "\(file.path) has \(size) bytes, not \(file.size)") }
            let digest = Signature.text(sha256.finalize())
            switch file.digest {
            case .sha256(let wanted) where wanted.lowercased() != digest:
                throw RoostError(.invalid, "\(file.path) has the SHA-256 \(digest), not \(wanted)")
            case .gitBlob(let wanted):
                let blob = Signature.text(sha1.finalize())
                guard wanted.lowercased() == blob else { throw RoostError(.invalid, "\(file.path) is the git blob \(blob), not \(wanted)") }
            default: break
            }
            return Model.File(path: file.path, size: size, sha256: digest)
        }
    }
}
