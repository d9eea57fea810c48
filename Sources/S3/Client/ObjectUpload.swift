import Crypto
import NIOCore
import Resource

/// Sends bytes whose number nobody knows yet as one object: in one request when they are few, else in parts, several at once.
///
/// Memory: `parallel` parts and the one being filled, whatever the object's size. Every part is sent with a checksum for the
/// store to compare.
package struct ObjectUpload: Sendable {
    /// What was sent.
    package struct Sent: Sendable, Equatable {
        package var size: Int64
        /// Hexadecimal.
        package var sha256: String
        package var etag: String
    }

    let client: S3Client
    let bucket: String
    let key: String
    var headers: [(String, String)]
    /// Parts under way at once.
    package var parallel = 4
    /// Of an upload that was begun before, its id; its parts that fit are not sent again.
    package var resumed: String?
    /// Told of a new upload's id before its first part is sent.
    package var onBegin: @Sendable (String) async -> Void = { _ in }
    package var onProgress: @Sendable (Int) -> Void = { _ in }

    package init(_ client: S3Client, bucket: String, key: String, headers: [(String, String)] = []) {
        (self.client, self.bucket, self.key, self.headers) = (client, bucket, key, headers)
    }

    /// The first parts have 8 MiB, so that little is held for most objects; later ones are larger, as there may be 10,000.
    static func partBytes(_ number: Int) -> Int { number <= 4_000 ? 8 << 20 : 64 << 20 }

    private struct State {
        var upload: String?
        var known: [Int: (size: Int64, etag: String)] = [:]
        var etags: [String] = []
        var total: Int64 = 0
        var hash = SHA256()
    }

    /// Sends all of `body`. What was begun and failed is given up, unless it is to be resumed.
    package func send<Body: AsyncSequence>(_ body: Body) async throws -> Sent where Body.Element == ByteBuffer {
        var state = State()
        do {
            let etag = try await transfer(body, &state)
            return Sent(size: state.total, sha256: Signature.text(state.hash.finalize()), etag: etag)
        } catch {
            if let upload = state.upload, resumed == nil { try? await client.abortUpload(bucket, key, upload: upload) }
            throw error
        }
    }

    private func transfer<Body: AsyncSequence>(_ body: Body, _ state: inout State) async throws -> String where Body.Element == ByteBuffer {
        try await withThrowingTaskGroup(of: (Int, String).self) { group in
            var part = ByteBuffer()
            var (number, running) = (1, 0)
            for try await var piece in body {
                piece.withUnsafeReadableBytes { state.hash.update(bufferPointer: $0) }
                state.total += Int64(piece.readableBytes)
                while piece.readableBytes > 0 {
                    let room = Self.partBytes(number) - part.readableBytes
                    if var slice = piece.readSlice(length: min(room, piece.readableBytes)) { part.writeBuffer(&slice) }
                    guard part.readableBytes == Self.partBytes(number) else { continue }
                    try await begin(&state)
                    if running == parallel, let (done, etag) = try await group.next() {
                        Self.note(etag, done, &state)
                        running -= 1
                    }
                    add(part, number, state, to: &group)
                    (part, number, running) = (ByteBuffer(), number + 1, running + 1)
                }
            }
            guard let upload = state.upload else { return try await sendWhole(part) }
            if part.readableBytes > 0 { add(part, number, state, to: &group) }
            for try await (done, etag) in group { Self.note(etag, done, &state) }
            try await client.completeUpload(bucket, key, upload: upload, etags: state.etags)
            return ""
        }
    }

    private func sendWhole(_ part: ByteBuffer) async throws -> String {
        let etag = try await client.put(bucket, key, part, headers: headers)
        onProgress(part.readableBytes)
        return etag
    }

    private func begin(_ state: inout State) async throws {
        guard state.upload == nil else { return }
        if let resumed, let parts = try? await client.parts(bucket, key, upload: resumed) {
            (state.upload, state.known) = (resumed, parts)
            return
        }
        let upload = try await client.createUpload(bucket, key, headers: headers)
        state.upload = upload
        await onBegin(upload)
    }

    private func add(_ part: ByteBuffer, _ number: Int, _ state: State, to group: inout ThrowingTaskGroup<(Int, String), any Error>) {
        let (known, upload) = (state.known[number], state.upload ?? "")
        group.addTask {
            let isThere = known.map { $0.size == Int64(part.readableBytes) && $0.etag == Self.md5(part) } ?? false
            if !isThere || known == nil {
                let etag = try await client.putPart(bucket, key, upload: upload, number: number, part)
                onProgress(part.readableBytes)
                return (number, etag)
            }
            onProgress(part.readableBytes)
            return (number, known?.etag ?? "")
        }
    }

    private static func note(_ etag: String, _ number: Int, _ state: inout State) {
        while state.etags.count < number { state.etags.append("") }
        state.etags[number - 1] = etag
    }

    private static func md5(_ part: ByteBuffer) -> String { part.withUnsafeReadableBytes { Digest.md5($0) } }
}
