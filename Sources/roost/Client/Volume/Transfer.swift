import ArgumentParser
import Disk
import Glibc
import NIOCore
import S3

/// One file from one side to the other.
struct Transfer: Sendable {
    enum Side: Sendable, Equatable {
        case local(String)
        case remote(volume: String, key: String)

        var shown: String {
            switch self {
            case .local(let path): path
            case .remote(let volume, let key): "\(volume):\(key)"
            }
        }
    }

    var source: Side
    var target: Side
    var size: Int64
    /// Of a remote source.
    var item: S3Client.Item?
    var removesSource = false
}

/// Does transfers, several at once; large uploads in parts, and each part only once however often it is tried.
struct TransferEngine: Sendable {
    let client: S3Client
    let progress: Progress

    static let parallelFiles = 4
    private static let parallelParts = 4
    /// Larger files go in parts.
    private static let partBytes: Int64 = 16 << 20

    /// All of them; the first failure ends the others.
    func run(_ transfers: [Transfer]) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            var rest = transfers[...]
            for _ in 0..<Self.parallelFiles {
                if let next = rest.popFirst() { group.addTask { try await move(next) } }
            }
            while try await group.next() != nil {
                if let next = rest.popFirst() { group.addTask { try await move(next) } }
            }
        }
    }

    private func move(_ transfer: Transfer) async throws {
        do {
            switch (transfer.source, transfer.target) {
            case (.local(let path), .remote(let volume, let key)): try await upload(path, size: transfer.size, volume, key)
            case (.remote(let volume, let key), .local(let path)): try await download(volume, key, transfer.item, to: path)
            case (.remote(let volume, let key), .remote(let targetVolume, let targetKey)):
                try await client.copy(targetVolume, targetKey, from: volume, key)
                progress.add(transfer.size)
            case (.local, .local): throw ValidationError("both sides are local: use cp")
            }
            if transfer.removesSource { try await remove(transfer.source) }
        } catch let failure as S3Failure {
            throw S3Failure(
                status: failure.status, code: failure.code,
                message: "\(failure.message) [\(transfer.source.shown) to \(transfer.target.shown)]")
        }
        progress.finishFile()
    }

    private func remove(_ side: Transfer.Side) async throws {
        switch side {
        case .local(let path): if unlink(path) < 0 { throw DiskError("unlink", path: path, errno: errno) }
        case .remote(let volume, let key): try await client.delete(volume, key)
        }
    }

    // MARK: - Up

    private func upload(_ path: String, size: Int64, _ volume: String, _ key: String) async throws {
        guard size > Self.partBytes * 2 else {
            try await client.put(volume, key, Self.read(path, offset: 0, length: size))
            progress.add(size)
            return
        }
        // At most 10,000 parts, whole MiB each.
        let partBytes = max(Self.partBytes, (((size / 9_000) >> 20) + 1) << 20)
        let count = Int((size + partBytes - 1) / partBytes)
        let (upload, known) = try await resume(volume, key)
        let etags = try await withThrowingTaskGroup(of: (Int, String).self) { group in
            var etags = [String](repeating: "", count: count)
            var next = 1
            func add() {
                guard next <= count else { return }
                let number = next
                next += 1
                let offset = Int64(number - 1) * partBytes
                let length = min(partBytes, size - offset)
                group.addTask {
                    let body = try await Self.read(path, offset: offset, length: length)
                    return (number, try await put(body, number, known[number], upload, volume, key))
                }
            }
            for _ in 0..<Self.parallelParts { add() }
            while let (number, etag) = try await group.next() {
                etags[number - 1] = etag
                add()
            }
            return etags
        }
        try await client.completeUpload(volume, key, upload: upload, etags: etags)
    }

    /// The upload of this key that an earlier run left, with its parts; else a new one.
    private func resume(_ volume: String, _ key: String) async throws -> (id: String, parts: [Int: (size: Int64, etag: String)]) {
        if let id = try await client.uploads(volume, key).last { return (id, try await client.parts(volume, key, upload: id)) }
        return (try await client.createUpload(volume, key), [:])
    }

    private func put(
        _ body: ByteBuffer, _ number: Int, _ known: (size: Int64, etag: String)?, _ upload: String, _ volume: String, _ key: String
    ) async throws -> String {
        let size = Int64(body.readableBytes)
        if let known, known.size == size, body.withUnsafeReadableBytes({ Digest.md5($0) }) == known.etag {
            progress.add(size, wasThere: true)
            return known.etag
        }
        let etag = try await client.putPart(volume, key, upload: upload, number: number, body)
        progress.add(size)
        return etag
    }

    private static func read(_ path: String, offset: Int64, length: Int64) async throws -> ByteBuffer {
        try await Blocking.run {
            try Files.withDescriptor(path, flags: O_RDONLY) { descriptor in
                var buffer = ByteBufferAllocator().buffer(capacity: Int(length))
                while buffer.readableBytes < Int(length) {
                    let at = off_t(offset) + off_t(buffer.readableBytes)
                    let wanted = Int(length) - buffer.readableBytes
                    let count = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: wanted) { raw in
                        max(0, pread(descriptor, raw.baseAddress, wanted, at))
                    }
                    guard count > 0 else { throw DiskError("read", path: path, detail: "the file became shorter while it was read") }
                }
                return buffer
            }
        }
    }

    // MARK: - Down

    /// Into a file beside the target, which an interrupted run leaves and the next goes on with.
    private func download(_ volume: String, _ key: String, _ item: S3Client.Item?, to path: String) async throws {
        guard let item = try await item == nil ? client.head(volume, key) : item else {
            throw S3Failure(status: 404, code: "NoSuchKey", message: "there is no \(volume):\(key)")
        }
        if Files.parent(of: path) != "." { try Files.makeDirectories(Files.parent(of: path), mode: 0o755) }
        let staged = "\(path).roost-\(item.etag.prefix(16))"
        let descriptor = try check(open(staged, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644), "open", staged)
        defer { close(descriptor) }
        var there = Int64(lseek(descriptor, 0, SEEK_END))
        if there > item.size {
            try check(ftruncate(descriptor, 0), "ftruncate", staged)
            there = 0
        }
        progress.add(there, wasThere: true)
        if there < item.size {
            let headers = [("range", "bytes=\(there)-"), ("if-match", "\"\(item.etag)\"")]
            let response = try await client.send(.GET, volume, key, headers: headers)
            for try await piece in response.body {
                try await Blocking.run { try Files.write(Array(buffer: piece), to: descriptor, path: staged) }
                progress.add(Int64(piece.readableBytes))
            }
        }
        guard Int64(lseek(descriptor, 0, SEEK_CUR)) >= 0, try Files.status(staged).st_size == item.size else {
            throw S3Failure(status: 200, code: "IncompleteBody", message: "\(key) came incomplete: run the command again to go on")
        }
        // The time of the object, so that a later sync sees that nothing changed.
        let time = timespec(tv_sec: Int(item.modified), tv_nsec: 0)
        _ = [time, time].withUnsafeBufferPointer { futimens(descriptor, $0.baseAddress) }
        try check(rename(staged, path), "rename", path)
    }
}
