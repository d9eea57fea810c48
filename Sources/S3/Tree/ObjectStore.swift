import CLinux
import Disk
import Glibc
import Resource

/// An object that is open: the file and its state belong together, whatever happens to the name meanwhile.
package struct OpenObject: Sendable {
    package let descriptor: Descriptor
    package let state: ObjectState
    package let isDirectory: Bool
    /// What S3 stored with it; empty for files that workers wrote or changed.
    package let record: ObjectRecord
}

/// Objects of a volume: read, published, removed.
extension VolumeTree {
    /// The object of a key, or nil. A directory is an object `name/` when it is empty or was put as one.
    package func object(_ key: ObjectKey) throws -> OpenObject? {
        let flags = key.isDirectory ? O_RDONLY | O_DIRECTORY : O_RDONLY
        guard let descriptor = try openIfPresent(key.path, flags) else { return nil }
        let info = try descriptor.status()
        if key.isDirectory {
            guard DirectoryMark.read(descriptor.raw) == .kept || Self.isEmpty(descriptor) else { return nil }
            var state = ObjectState(info, record: nil)
            state.size = 0
            return OpenObject(descriptor: descriptor, state: state, isDirectory: true, record: ObjectRecord())
        }
        guard info.isFile else { return nil }
        return Self.opened(descriptor, info)
    }

    static func opened(_ descriptor: Descriptor, _ info: stat) -> OpenObject {
        let stored = ObjectRecord.read(descriptor.raw)
        let isTrue = stored.map { $0.size == Int64(info.st_size) && $0.modifiedNs == info.modifiedNs } ?? false
        let record = isTrue ? stored ?? ObjectRecord() : ObjectRecord()
        var head: ObjectRecord.Head?
        if let etag = record.etag { head = ObjectRecord.Head(etag: etag, size: record.size, modifiedNs: record.modifiedNs) }
        return OpenObject(descriptor: descriptor, state: ObjectState(info, record: head), isDirectory: false, record: record)
    }

    /// Puts a staged file in a key's place: it, its record and every directory entry are on the disk afterwards, and
    /// whoever looks sees the old object or the new one. Conditions are judged under the key's lock.
    package func publish(
        _ staged: StagedFile, as key: ObjectKey, _ record: ObjectRecord, if conditions: Preconditions, time: Int64
    ) throws -> ObjectState {
        let place = parent(of: key)
        var record = record
        var isSealed = false
        do {
            // The parent may be pruned between its opening and the rename, by the deletion of its last file.
            for _ in 0..<16 {
                let directory = try makeDirectory(place.path)
                if !isSealed { try staged.seal(&record, like: directory.status(), time: time) }
                isSealed = true
                let isDone = try durability.commit(contents: staged, in: directory) {
                    try self.replace(staged, key, directory, place.name, conditions)
                }
                guard isDone else { continue }
                return ObjectState(try staged.descriptor.status(), record: record.head)
            }
            throw S3Error(.operationAborted, "the key's folder was removed again and again")
        } catch {
            prune(from: place.path)
            throw error
        }
    }

    /// False when the directory went away meanwhile.
    private func replace(
        _ staged: StagedFile, _ key: ObjectKey, _ directory: Descriptor, _ name: String, _ conditions: Preconditions
    ) throws -> Bool {
        try shared.keys.withLock(id, key.path) {
            if !conditions.isEmpty { try conditions.checkWriting(over: object(key)?.state.etag) }
            do {
                // Not even a worker may slip a file in between.
                try staged.move(to: directory, name, isNew: conditions.wantsNone)
                return true
            } catch let error as DiskError {
                switch error.errno {
                case ENOENT: return false
                case EEXIST: throw S3Error(.preconditionFailed, "If-None-Match: the object is there")
                case EISDIR, ENOTEMPTY, ENOTDIR:
                    // A folder that only S3 made, and that is empty, is in nobody's way.
                    if isMade(key.path), unlinkat(directory.raw, name, AT_REMOVEDIR) == 0 { return false }
                    throw S3Error(.keyConflict, "'\(key.path)' is a folder: a volume is a file tree, where a name is a file or a folder")
                default: throw error
                }
            }
        }
    }

    private func isMade(_ path: String) -> Bool {
        guard let directory = try? openIfPresent(path, O_RDONLY | O_DIRECTORY) else { return false }
        return DirectoryMark.read(directory.raw) == .made
    }

    /// Puts the object `name/`: a directory that stays when it is empty.
    package func putDirectory(_ key: ObjectKey, if conditions: Preconditions) throws -> ObjectState {
        let directory = try shared.keys.withLock(id, key.path) {
            if !conditions.isEmpty { try conditions.checkWriting(over: object(key)?.state.etag) }
            let directory = try makeDirectory(key.path)
            try DirectoryMark.kept.write(to: directory.raw)
            return directory
        }
        _ = try durability.commit(in: directory) { true }
        var state = ObjectState(try directory.status(), record: nil)
        state.size = 0
        return state
    }

    /// Removes an object; none there is fine.
    package func remove(_ key: ObjectKey, if conditions: Preconditions) throws {
        let place = parent(of: key)
        guard let directory = try openIfPresent(place.path, O_RDONLY | O_DIRECTORY) else { return }
        let isGone = try shared.keys.withLock(id, key.path) {
            if !conditions.isEmpty {
                let etag = try object(key)?.state.etag
                if etag == nil { return false }
                try conditions.checkWriting(over: etag)
            }
            return try key.isDirectory ? removeDirectory(key, directory, place.name) : removeFile(directory, place.name)
        }
        guard isGone else { return }
        prune(from: place.path)
        _ = try durability.commit(in: directory) { true }
    }

    private func removeFile(_ directory: Descriptor, _ name: String) throws -> Bool {
        if unlinkat(directory.raw, name, 0) == 0 { return true }
        // A directory is no object of this key.
        if [ENOENT, EISDIR, EPERM].contains(errno) { return false }
        throw DiskError("unlink", path: name, errno: errno)
    }

    private func removeDirectory(_ key: ObjectKey, _ directory: Descriptor, _ name: String) throws -> Bool {
        if unlinkat(directory.raw, name, AT_REMOVEDIR) == 0 { return true }
        switch errno {
        case ENOENT, ENOTDIR: return false
        case ENOTEMPTY, EEXIST:
            // It goes on as the folder of what is in it, and goes with the last of that.
            if let itself = try openIfPresent(key.path, O_RDONLY | O_DIRECTORY), DirectoryMark.read(itself.raw) == .kept {
                try DirectoryMark.made.write(to: itself.raw)
                try itself.sync(key.path)
            }
            return false
        default: throw DiskError("rmdir", path: key.path, errno: errno)
        }
    }

    /// Changes what is stored with an object, not its bytes.
    package func change(_ key: ObjectKey, _ change: (inout ObjectRecord) -> Void) throws -> Bool {
        try shared.keys.withLock(id, key.path) {
            guard let object = try object(key), !object.isDirectory else { return false }
            var record = object.record
            (record.size, record.modifiedNs) = (object.state.size, object.state.modifiedNs)
            change(&record)
            try record.write(to: object.descriptor.raw)
            try object.descriptor.sync(key.path)
            return true
        }
    }

    /// Whether nothing at all is on the volume.
    package var isEmpty: Bool { (try? open(beneath: "", O_RDONLY | O_DIRECTORY)).map(Self.isEmpty) ?? false }
}

extension ObjectRecord {
    var head: Head { Head(etag: etag, size: size, modifiedNs: modifiedNs) }
}

extension ObjectRecord.Head {
    init(etag: String?, size: Int64, modifiedNs: Int64) {
        self.etag = etag
        self.size = size
        self.modifiedNs = modifiedNs
    }
}
