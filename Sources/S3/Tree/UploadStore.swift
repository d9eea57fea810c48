import CLinux
import Disk
import Glibc
import Resource

/// An upload in parts, as its manifest tells.
package struct Upload: Sendable {
    package var id: String
    package var key: ObjectKey
    /// Milliseconds since 1970.
    package var initiated: Int64
    /// What the object is to have: headers, metadata, tags.
    package var record: ObjectRecord
    package var algorithm: ChecksumAlgorithm?
    /// Whether the object's checksum is that of its whole rather than of its parts' checksums.
    package var isFullObject: Bool

    package init(id: String, key: ObjectKey, initiated: Int64, record: ObjectRecord, algorithm: ChecksumAlgorithm?, isFullObject: Bool) {
        (self.id, self.key, self.initiated, self.record) = (id, key, initiated, record)
        (self.algorithm, self.isFullObject) = (algorithm, isFullObject)
    }

    /// A line with the key, the time and the checksum as JSON, then the record.
    fileprivate var bytes: [UInt8] {
        let head: JSON = [
            "key": .string(key.text), "initiated": .int(Int(initiated)), "algorithm": .string(algorithm?.rawValue ?? ""),
            "full": .bool(isFullObject),
        ]
        return head.bytes + [0x0A] + record.bytes
    }

    fileprivate init?(id: String, _ bytes: [UInt8]) {
        guard let newline = bytes.firstIndex(of: 0x0A), let head = try? JSONReader.parse(Array(bytes[..<newline])),
            let key = head["key"]?.string.flatMap({ try? ObjectKey(Array($0.utf8)) }), let initiated = head["initiated"]?.int,
            let record = ObjectRecord(Array(bytes[(newline + 1)...]))
        else { return nil }
        self.init(
            id: id, key: key, initiated: Int64(initiated), record: record,
            algorithm: head["algorithm"]?.string.flatMap(ChecksumAlgorithm.init), isFullObject: head["full"]?.bool ?? false)
    }
}

/// One part of an upload.
package struct UploadPart: Sendable {
    package var number: Int
    package var size: Int64
    package var etag: String
    package var modifiedNs: Int64
    package var checksum: ObjectRecord.StoredChecksum?
}

/// Uploads in parts: `staging/upload/ID/{manifest,1,2,…}`. Each part is durable when it is answered; completion shares
/// the parts' blocks and leaves everything as it was until the object is published.
extension VolumeTree {
    package static let maximumParts = 10_000

    private func folder(_ id: String) -> String { uploads + "/" + id }

    /// An id of ours and nothing else that could be a path.
    private static func isUploadID(_ id: String) -> Bool { id.utf8.count == 36 && Identifier.isSafe(id) }

    package func createUpload(_ upload: Upload) throws {
        let folder = folder(upload.id)
        try Files.makeDirectories(folder)
        do {
            try Files.replace(folder + "/manifest", with: upload.bytes)
            try Files.syncDirectory(uploads)
            try Files.syncDirectory(Files.parent(of: uploads))
        } catch {
            _ = try? Files.remove(folder)
            throw error
        }
    }

    package func upload(_ id: String, key: ObjectKey) throws -> Upload {
        guard let upload = upload(id), upload.key == key else {
            throw S3Error(.noSuchUpload, "there is no such upload: it was completed or aborted, or lay too long")
        }
        return upload
    }

    private func upload(_ id: String) -> Upload? {
        guard Self.isUploadID(id), let bytes = try? Files.read(folder(id) + "/manifest") else { return nil }
        return Upload(id: id, bytes)
    }

    /// All uploads, by key and then by when they began.
    package func uploadList() throws -> [Upload] {
        try Files.names(in: uploads).compactMap { upload($0) }.sorted { left, right in
            if left.key != right.key { return left.key.text.utf8.lexicographicallyPrecedes(right.key.text.utf8) }
            return (left.initiated, left.id) < (right.initiated, right.id)
        }
    }

    /// How many uploads wait for their completion, and the bytes of their parts.
    package func uploadTotals() throws -> (count: Int, bytes: Int64) {
        let ids = try Files.names(in: uploads)
        return (ids.count, ids.reduce(0) { sum, id in sum + ((try? parts(of: id)) ?? []).reduce(0) { $0 + $1.size } })
    }

    // MARK: - Parts

    /// A file to write a part into, in the upload's own folder.
    package func stagePart(of upload: Upload) throws -> StagedFile {
        try StagedFile(in: openFolder(upload.id), name: "part-" + Identifier.uuid())
    }

    private func openFolder(_ id: String) throws(S3Error) -> Descriptor {
        let raw = Glibc.open(folder(id), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0 else { throw S3Error(.noSuchUpload, "the upload was completed or aborted meanwhile") }
        return Descriptor(raw)
    }

    /// Puts a part in its place, durably, instead of an earlier one of its number.
    package func publishPart(_ number: Int, of upload: Upload, _ staged: StagedFile, _ record: ObjectRecord, time: Int64) throws {
        var record = record
        let folder = try openFolder(upload.id)
        try staged.seal(&record, like: folder.status(), time: time)
        _ = try durability.commit(contents: staged, in: folder) {
            // Not under the upload's lock: its completion waits for the group. A part that comes while the upload ends
            // finds the folder gone, or goes with it.
            do { try staged.move(to: folder, String(number), isNew: false) } catch let error as DiskError {
                guard error.errno != ENOENT else { throw S3Error(.noSuchUpload, "the upload was completed or aborted meanwhile") }
                throw error
            }
            return true
        }
    }

    /// The parts of an upload, by number.
    package func parts(of id: String) throws -> [UploadPart] {
        let numbers = try Files.names(in: folder(id)).compactMap { Int($0) }.sorted()
        return try numbers.compactMap { try openPart($0, of: id)?.part }
    }

    private func openPart(_ number: Int, of id: String) throws -> (file: Descriptor, part: UploadPart)? {
        let raw = Glibc.open(folder(id) + "/\(number)", O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { return nil }
        let file = Descriptor(raw)
        let opened = Self.opened(file, try file.status())
        let part = UploadPart(
            number: number, size: opened.state.size, etag: opened.state.etag, modifiedNs: opened.state.modifiedNs,
            checksum: opened.record.checksum)
        return (file, part)
    }

    package func abort(_ upload: Upload) throws {
        try shared.uploads.withLock(id, upload.id) { try removeUpload(upload.id) }
    }

    /// The manifest goes first: a removal that a crash cuts short leaves no upload, only what the sweeper takes.
    private func removeUpload(_ id: String) throws {
        try Files.remove(folder(id) + "/manifest")
        for attempt in 1... {
            do { try Files.remove(folder(id)) } catch {
                // A part that came in just now made the folder full again.
                guard error.errno == ENOTEMPTY, attempt < 10 else { throw error }
                continue
            }
            break
        }
        try Files.syncDirectory(uploads)
    }

    // MARK: - Completion

    /// What the client says the object is made of.
    package struct PartList: Sendable {
        package struct Item: Sendable {
            package var number: Int
            package var etag: String
            package var checksum: String?

            package init(number: Int, etag: String, checksum: String?) {
                (self.number, self.etag, self.checksum) = (number, etag, checksum)
            }
        }

        package var items: [Item]
        /// What the whole object's checksum is to be, if the client says.
        package var expected: String?

        package init(items: [Item], expected: String?) {
            self.items = items
            self.expected = expected
        }
    }

    /// The record of the object that an upload became, if it still stands: a repeated completion gets the same answer.
    package func completed(_ id: String, _ key: ObjectKey) throws -> OpenObject? {
        guard let object = try object(key), object.record.upload == id else { return nil }
        return object
    }

    /// Makes the object. `pause` is called between steps, for what must happen meanwhile.
    package func complete(
        _ id: String, _ key: ObjectKey, _ list: PartList, if conditions: Preconditions, time: Int64, pause: () -> Void
    ) throws -> (etag: String, checksum: ObjectRecord.StoredChecksum?) {
        try shared.uploads.withLock(self.id, id) {
            if let object = try completed(id, key) {
                try removeUpload(id)
                return (object.state.etag, object.record.checksum)
            }
            let upload = try upload(id, key: key)
            var assembly = Assembly(upload: upload)
            let staged = try stage()
            for item in list.items {
                guard let (file, part) = try openPart(item.number, of: id), part.etag == item.etag else {
                    throw S3Error(.invalidPart, "part \(item.number) was not uploaded, or its ETag is another one")
                }
                try assembly.add(part, item)
                try staged.append(from: file.raw, ByteRange(offset: 0, length: part.size), pause: pause)
            }
            let record = try assembly.record(expected: list.expected)
            _ = try publish(staged, as: key, record, if: conditions, time: time)
            try removeUpload(id)
            return (record.etag ?? "", record.checksum)
        }
    }

    // MARK: - Sweeping

    /// Removes what no request will ask for again: at the start all staged files, and uploads without activity for
    /// `age` seconds. Returns how many uploads went.
    package func sweep(olderThan age: Int64, now: Int64, isStart: Bool) throws -> Int {
        for folder in (0..<Self.stagingFolders).map(stagingFolder) {
            for path in try Files.names(in: folder).map({ folder + "/" + $0 }) {
                guard let info = try? Files.status(path) else { continue }
                if isStart || now - Int64(info.st_mtim.tv_sec) > 86_400 { unlink(path) }
            }
        }
        var removed = 0
        for name in try Files.names(in: uploads) {
            let isKnown = upload(name) != nil
            let quiet = now - Int64(try Files.status(folder(name)).st_mtim.tv_sec)
            guard quiet > age || (isStart && !isKnown) else { continue }
            try shared.uploads.withLock(id, name) { try removeUpload(name) }
            removed += isKnown ? 1 : 0
        }
        return removed
    }
}
