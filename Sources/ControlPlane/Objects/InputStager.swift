import Crypto
import Disk
import Glibc
import NIOCore
import Resource
import S3

/// Turns the references of an input into what a handler can use: files on the worker's own disk, or URLs.
package struct InputStager: Sendable {
    package let places: ObjectPlaces
    package let guardian: NetworkGuard
    let now: @Sendable () -> Milliseconds

    private static let urlSeconds: Int64 = 7 * 86_400
    private static let parallel = 4
    /// Below the worker's `/`: in it, one folder for each attempt of a job.
    static let folder = "tmp/roost"

    /// Refuses references that cannot be meant: before the job is accepted, as far as that can be known.
    package func check(_ input: [UInt8], of endpoint: Endpoint) throws(RoostError) {
        for reference in try InputReferences.find(in: input) {
            switch reference.source {
            case .url(let text):
                let (_, host, port) = try RemoteFile.parse(text)
                try guardian.check(host: host, port: port, field: "$ref.url")
            case .object(.store(let name), _): _ = try places.catalog.objectStore(name)
            case .object(.volume(let id), _):
                guard endpoint.networkVolumeIds.contains(id) || endpoint.largeData == "volume:\(id)" else {
                    throw RoostError(.invalid, "field '$ref.volume': \(id.prefix(80)) is not a network volume of this endpoint")
                }
            }
        }
    }

    /// Where a file of the client's is to be put before its job, and the reference to send with that.
    package func upload(_ body: JSON, for endpoint: Endpoint) throws -> JSON {
        let wanted = try Self.wanted(body)
        let name =
            endpoint.largeData.flatMap(ObjectPlace.Name.init) ?? endpoint.objectStore.map { .store($0) }
            ?? endpoint.networkVolumeIds.first.map { .volume($0) }
        guard let name else {
            throw RoostError(
                .conflict, "endpoint \(endpoint.id) has no place for uploads: set its 'largeData' to store:NAME or volume:ID")
        }
        let place = try places.place(name)
        let key = place.key("roost/uploads/\(endpoint.id)/\(Identifier.make(length: Limits.idLength))/\(wanted.fileName)")
        var members = [name.member, JSON.Member("key", .string(key))]
        if let size = wanted.size { members.append(.init("size", .int(Int(size)))) }
        if let digest = wanted.sha256 { members.append(.init("sha256", .string(digest))) }
        return [
            "method": "PUT", "url": .string(try place.presign(.put, key: key, seconds: Self.urlSeconds, at: now())),
            "expires": .string(Timestamp.text(now() + Self.urlSeconds * 1_000)), "ref": ["$ref": .object(members)],
        ]
    }

    private static func wanted(_ body: JSON) throws(RoostError) -> InputReferences.Reference {
        let fields = [
            Field("filename", .text(255), default: "input", "the last part of its key"), Field("size", .integer(0...(1 << 50)), "bytes"),
            Field("sha256", .text(64), "hexadecimal; checked when a job uses it"),
        ]
        let values = try FieldValues(body, fields: fields, isUpdate: false)
        if let digest = values.string("sha256"), digest.utf8.count != 64 || !digest.allSatisfy(\.isHexDigit) {
            throw RoostError(.invalid, "field 'sha256': must be 64 hexadecimal digits")
        }
        return .init(
            source: .object(.store(""), key: values.string("filename") ?? "input"), size: values.int("size").map(Int64.init),
            sha256: values.string("sha256")?.lowercased())
    }

    // MARK: - Resolving

    /// The input with every reference resolved for a worker. `root` is its `/` as the server reaches it.
    func resolve(_ input: [UInt8], folder: String, worker: Worker, endpoint: Endpoint, root: String?) async throws -> [UInt8] {
        let references = try InputReferences.find(in: input)
        var values = [JSON](repeating: .null, count: references.count)
        try await withThrowingTaskGroup(of: (Int, JSON).self) { group in
            for (index, reference) in references.enumerated() {
                if index >= Self.parallel, let (done, value) = try await group.next() { values[done] = value }
                group.addTask {
                    do { return (index, try await value(of: reference, index, folder, worker, endpoint, root)) } catch {
                        throw RoostError(.invalid, "input $ref \(describe(reference)): \(explain(error, reference))")
                    }
                }
            }
            for try await (done, value) in group { values[done] = value }
        }
        return try InputReferences.replace(in: input, by: values)
    }

    private func describe(_ reference: InputReferences.Reference) -> String {
        switch reference.source {
        case .object(let place, let key): "\(place.text) '\(key)'"
        case .url(let url): "\(url.prefix { $0 != "?" }.prefix(200))"
        }
    }

    private func explain(_ error: any Error, _ reference: InputReferences.Reference) -> String {
        if let error = error as? RoostError { return error.message }
        if let error = error as? DiskError, error.isNoSpace {
            return "the container volume is full: raise the template's containerDiskInGb"
        }
        if case .object(let name, _) = reference.source, let place = try? places.place(name) { return places.explain(error, place) }
        return "\(error)"
    }

    private func value(
        of reference: InputReferences.Reference, _ index: Int, _ folder: String, _ worker: Worker, _ endpoint: Endpoint, _ root: String?
    ) async throws -> JSON {
        if case .object(.volume(let id), let key) = reference.source, id == worker.volumeID {
            // It is there already, at its own path.
            try await verify(reference, key, in: places.place(.volume(id)))
            return .string("/runpod-volume/\(key)")
        }
        if endpoint.inputRefs == .url {
            switch reference.source {
            case .url(let url): return .string(url)
            case .object(let name, let key):
                return .string(try places.place(name).presign(.get, key: key, seconds: Self.urlSeconds, at: now()))
            }
        }
        guard let root else { throw RoostError(.unavailable, "the worker has ended") }
        let path = "\(Self.folder)/\(folder)/\(index)-\(reference.fileName)"
        let disk = try ContainedFolder(root: root)
        let file = try await Blocking.run { try disk.makeFile(path) }
        defer { close(file) }
        let sink = Sink(limit: reference.size, room: disk.freeBytes, file: file, path: path)
        try await read(reference) { try await sink.take($0) }
        try sink.check(reference)
        return .string("/" + path)
    }

    private func verify(_ reference: InputReferences.Reference, _ key: String, in place: ObjectPlace) async throws {
        guard let item = try await place.client.head(place.bucket, key) else { throw RoostError(.notFound, "there is no such object") }
        guard reference.size ?? item.size == item.size else {
            throw RoostError(.invalid, "it has \(item.size) bytes, not \(reference.size ?? 0)")
        }
        guard reference.sha256 != nil else { return }
        let sink = Sink(limit: nil, room: .max, file: -1, path: key)
        try await place.client.read(place.bucket, key, size: item.size, etag: item.etag) { try await sink.take($0) }
        try sink.check(reference)
    }

    private func read(_ reference: InputReferences.Reference, _ take: @escaping (ByteBuffer) async throws -> Void) async throws {
        switch reference.source {
        case .url(let url): try await RemoteFile(guardian: guardian).read(url, take)
        case .object(let name, let key):
            let place = try places.place(name)
            guard let item = try await place.client.head(place.bucket, key) else { throw RoostError(.notFound, "there is no such object") }
            try await place.client.read(place.bucket, key, size: item.size, etag: item.etag, take)
        }
    }

    /// Counts, hashes and writes what comes. One task at a time uses it.
    private final class Sink: @unchecked Sendable {
        private let limit: Int64?
        private let room: Int64
        private let file: Int32
        private let path: String
        private var size: Int64 = 0
        private var hash = SHA256()

        init(limit: Int64?, room: Int64, file: Int32, path: String) {
            (self.limit, self.room, self.file, self.path) = (limit, room, file, path)
        }

        func take(_ piece: ByteBuffer) async throws {
            size += Int64(piece.readableBytes)
            if let limit, size > limit { throw RoostError(.invalid, "it has more than the \(limit) bytes that were announced") }
            guard size <= room else {
                throw RoostError(.noSpace, "it does not fit the container volume, which has \(room) bytes left: raise containerDiskInGb")
            }
            piece.withUnsafeReadableBytes { hash.update(bufferPointer: $0) }
            guard file >= 0 else { return }
            let (file, path) = (file, path)
            try await Blocking.run { try Files.write(Array(buffer: piece), to: file, path: path) }
        }

        func check(_ reference: InputReferences.Reference) throws {
            guard reference.size ?? size == size else { throw RoostError(.invalid, "it has \(size) bytes, not \(reference.size ?? 0)") }
            let digest = hash.finalize().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            guard reference.sha256 ?? digest == digest else {
                throw RoostError(.invalid, "its SHA-256 is \(digest), not \(reference.sha256 ?? "")")
            }
        }
    }
}
