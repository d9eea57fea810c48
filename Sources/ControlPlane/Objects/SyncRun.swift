import Crypto
import Disk
import NIOCore
import Resource
import S3

/// One run of a sync: compares two places and copies what differs.
///
/// An object is unchanged when size and ETag are the same on both sides, or when its copy remembers the ETag of what it
/// was copied from. What is copied is checked on the way: against the MD5 that the source's ETag is, where it is one, and
/// by the target against the checksum sent with every part.
struct SyncRun: Sendable {
    struct Side: Sendable {
        var place: ObjectPlace
        /// In front of every key, with what the place itself puts there.
        var prefix: String
    }

    /// What the run tells while it goes on.
    enum Event: Sendable {
        case found(files: Int, bytes: Int64)
        case copied(bytes: Int64)
        case unchanged
        case failed(String)
        case began(key: String, upload: String)
        case moved(Int64)
    }

    let source: Side
    let target: Side
    /// Uploads that an earlier run began, by key.
    let uploads: [String: String]
    let tell: @Sendable (Event) -> Void

    private static let parallel = 4
    /// After so many failures the rest is not tried.
    private static let patience = 20
    private static let origin = "roost-source"

    func run() async throws {
        let items = try await sources()
        tell(.found(files: items.count, bytes: items.reduce(0) { $0 &+ $1.item.size }))
        let listed = try await target.place.client.list(target.place.bucket, prefix: target.prefix).items
        let there = Dictionary(listed.map { ($0.key, $0) }, uniquingKeysWith: { $1 })
        let failures = Locked(0)
        await withDiscardingTaskGroup { group in
            let gate = AsyncStream<Void>.makeStream()
            for _ in 0..<Self.parallel { gate.continuation.yield() }
            var slots = gate.stream.makeAsyncIterator()
            for (item, key) in items {
                _ = await slots.next()
                guard !Task.isCancelled, failures.withLock({ $0 }) < Self.patience else { break }
                group.addTask {
                    do { try await copy(item, to: key, over: there[key]) } catch {
                        failures.withLock { $0 += 1 }
                        tell(.failed("\(item.key): \(explain(error))"))
                    }
                    gate.continuation.yield()
                }
            }
        }
        try Task.checkCancellation()
    }

    private func explain(_ error: any Error) -> String { String("\((error as? RoostError)?.message ?? "\(error)")".prefix(300)) }

    /// The objects below the source, or the one that it names, each with the key of its copy.
    private func sources() async throws -> [(item: S3Client.Item, key: String)] {
        let folder = Self.folder(source.prefix)
        let found = try await source.place.client.list(source.place.bucket, prefix: folder).items.filter { !$0.key.hasSuffix("/") }
        if !found.isEmpty || folder.isEmpty {
            return found.map { ($0, Self.folder(target.prefix) + $0.key.dropFirst(folder.count)) }
        }
        guard let one = try await source.place.client.head(source.place.bucket, source.prefix) else {
            // A folder that is empty, or not there yet, has nothing to copy.
            return []
        }
        let name = String(source.prefix.split(separator: "/").last ?? "")
        return [(one, target.prefix.isEmpty || target.prefix.hasSuffix("/") ? target.prefix + name : target.prefix)]
    }

    private static func folder(_ prefix: String) -> String { prefix.isEmpty || prefix.hasSuffix("/") ? prefix : prefix + "/" }

    private func copy(_ item: S3Client.Item, to key: String, over old: S3Client.Item?) async throws {
        let (from, to) = (source.place, target.place)
        if let old, old.size == item.size {
            if !item.etag.isEmpty, old.etag == item.etag { return tell(.unchanged) }
            if try await to.client.details(to.bucket, key)?.metadata[Self.origin] == item.etag { return tell(.unchanged) }
        }
        guard let details = try await from.client.details(from.bucket, item.key) else { return tell(.unchanged) }
        let current = details.item
        let headers = [("x-amz-meta-" + Self.origin, current.etag)]
        var upload = ObjectUpload(to.client, bucket: to.bucket, key: key, headers: headers)
        upload.parallel = 2
        upload.resumed = uploads[key]
        upload.onBegin = { tell(.began(key: key, upload: $0)) }
        upload.onProgress = { tell(.moved(Int64($0))) }
        let body = HashedRead(ObjectRead(from.client, bucket: from.bucket, key: current.key, size: current.size, etag: current.etag))
        _ = try await upload.send(body)
        if details.hasPlainETag, case .store = from.name, body.md5 != current.etag {
            try? await to.client.delete(to.bucket, key)
            throw RoostError(.internalFault, "its MD5 is \(body.md5), and the source says \(current.etag)")
        }
        tell(.copied(bytes: current.size))
    }

    /// Hashes what is read. One task at a time uses it.
    private final class HashedRead: AsyncSequence, AsyncIteratorProtocol, @unchecked Sendable {
        private var rest: ObjectRead.Iterator
        private var hash = Insecure.MD5()

        init(_ source: ObjectRead) { rest = source.makeAsyncIterator() }

        func makeAsyncIterator() -> HashedRead { self }

        func next() async throws -> ByteBuffer? {
            guard let piece = try await rest.next() else { return nil }
            piece.withUnsafeReadableBytes { hash.update(bufferPointer: $0) }
            return piece
        }

        var md5: String { hash.finalize().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
    }
}
