import DequeModule
import NIOCore
import Resource
import S3

/// Puts outputs that are too large to keep where the endpoint's `largeData` says, while they arrive.
package struct ResultSpill: Sendable {
    let places: ObjectPlaces
    let jobs: JobService
    let now: @Sendable () -> Milliseconds

    /// How long the URL of a result is good: as long as signatures may be.
    private static let urlSeconds: Int64 = 7 * 86_400

    /// Takes the whole body of a `job-done`: `start` and what follows it. Returns once the job has ended durably.
    ///
    /// Where the output cannot be put away, the job fails and says why; errors thrown are those of the connection.
    package func take<Rest: AsyncIteratorProtocol>(
        _ start: [ByteBuffer], then rest: Rest, worker: String, job: String, place name: ObjectPlace.Name
    ) async throws where Rest.Element == ByteBuffer {
        let reader = Reader(start, rest)
        do {
            guard let first = try await reader.next(), reader.scanner.members["status"] != Array("\"IN_PROGRESS\"".utf8) else {
                // Nothing but an error too large to keep, or progress that nobody could read.
                try await reader.drain()
                return try await jobs.outputTooLarge(worker: worker, job: job, bytes: reader.read)
            }
            try await spill(first, reader, worker: worker, job: job, place: name)
        } catch is OutputScanner.Malformed {
            try await reader.drain()
            try await jobs.done(worker: worker, job: job, report: nil)
        }
    }

    private func spill<Rest>(
        _ first: ByteBuffer, _ reader: Reader<Rest>, worker: String, job: String, place name: ObjectPlace.Name
    ) async throws {
        let place: ObjectPlace
        do { place = try places.place(name) } catch {
            return try await fail(reader, worker, job, "the output could not be put into \(name.text): \(error)")
        }
        let endpoint = await jobs.endpoint(of: job) ?? "unknown"
        let key = place.key("roost/results/\(endpoint)/\(job)/\(Identifier.make(length: 8)).json")
        let upload = ObjectUpload(place.client, bucket: place.bucket, key: key, headers: [("content-type", "application/json")])
        let sent: ObjectUpload.Sent
        do { sent = try await upload.send(reader.pieces(after: first)) } catch let error as OutputScanner.Malformed { throw error } catch {
            if reader.failure != nil { throw error }
            return try await fail(reader, worker, job, "the output could not be put into \(name.text): \(places.explain(error, place))")
        }
        guard reader.scanner.isComplete else {
            try? await place.client.delete(place.bucket, key)
            throw OutputScanner.Malformed()
        }
        let expires = now() + Self.urlSeconds * 1_000
        let reference: JSON = .object([
            .init(
                "$ref",
                .object([
                    .init("url", .string(try place.presign(.get, key: key, seconds: Self.urlSeconds, at: now()))),
                    .init("size", .int(Int(sent.size))), .init("sha256", .string(sent.sha256)),
                    .init("expires", .string(Timestamp.text(expires))), name.member, .init("key", .string(key)),
                ]))
        ])
        let report = WorkerReport(output: reference.bytes, members: reader.scanner.members)
        // A job that ended meanwhile has no use for it, and nobody would ever find it.
        if try await !jobs.done(worker: worker, job: job, report: report) { try? await place.client.delete(place.bucket, key) }
    }

    private func fail<Rest>(_ reader: Reader<Rest>, _ worker: String, _ job: String, _ text: String) async throws {
        try await reader.drain()
        try await jobs.done(worker: worker, job: job, report: WorkerReport(output: nil, members: ["error": JSON.string(text).bytes]))
    }

    /// Pulls the body through the scanner. One task at a time uses it.
    private final class Reader<Rest: AsyncIteratorProtocol>: @unchecked Sendable where Rest.Element == ByteBuffer {
        private var start: Deque<ByteBuffer>
        private var rest: Rest
        private(set) var scanner = OutputScanner()
        private(set) var read = 0
        /// What the connection died of.
        private(set) var failure: (any Error)?

        init(_ start: [ByteBuffer], _ rest: Rest) { (self.start, self.rest) = (Deque(start), rest) }

        /// The next bytes of the output; nil at the body's end.
        func next() async throws -> ByteBuffer? {
            while let piece = try await body() {
                read += piece.readableBytes
                let out = try piece.withUnsafeReadableBytes { (bytes) throws(OutputScanner.Malformed) in try scanner.feed(bytes) }
                if !out.isEmpty { return ByteBuffer(bytes: out) }
            }
            return nil
        }

        private func body() async throws -> ByteBuffer? {
            if let begun = start.popFirst() { return begun }
            do { return try await rest.next() } catch {
                failure = error
                throw error
            }
        }

        /// Reads what is left, so that the worker hears the answer.
        func drain() async throws { while let piece = try await body() { read += piece.readableBytes } }

        func pieces(after first: ByteBuffer) -> Pieces<Rest> { Pieces(first: first, reader: self) }
    }

    private struct Pieces<Rest: AsyncIteratorProtocol>: AsyncSequence, AsyncIteratorProtocol where Rest.Element == ByteBuffer {
        var first: ByteBuffer?
        let reader: Reader<Rest>

        func makeAsyncIterator() -> Pieces<Rest> { self }

        mutating func next() async throws -> ByteBuffer? {
            defer { first = nil }
            if let first { return first }
            return try await reader.next()
        }
    }
}
