import CLinux
import Disk
import Glibc
import Resource
import Synchronization

/// What all requests share.
package final class TreeShared: Sendable {
    let keys = KeyLocks()
    let uploads = KeyLocks()
    let snapshots: SnapshotCache
    let stagings = Atomic(UInt64(0))
    let groups = Locked<[String: PublishGroup]>([:])

    package init(snapshotBytes: Int = 96 << 20) { snapshots = SnapshotCache(limit: snapshotBytes) }
}

/// A volume's tree as S3 reaches it. Every path is resolved beneath its root by the kernel: a symbolic link inside works,
/// one that leaves fails, however it is swapped meanwhile.
package final class VolumeTree: Sendable {
    package let id: String
    package let shared: TreeShared
    let root: Descriptor
    let durability: Durability
    /// Where objects are written before they are published. Many folders, because a folder takes one new file at a time.
    private let staging: String
    /// Where uploads in parts are kept.
    let uploads: String

    private static let resolve = UInt64(CL_RESOLVE_BENEATH) | UInt64(CL_RESOLVE_NO_MAGICLINKS)

    package init(id: String, data: String, staging: String, shared: TreeShared) throws {
        self.id = id
        self.shared = shared
        root = Descriptor(try check(Glibc.open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", data))
        durability = Durability(data: data, staging: staging, groups: shared.groups, id: id)
        uploads = staging + "/upload"
        self.staging = staging + "/put"
    }

    static let stagingFolders = 64

    /// A file to write an object into.
    package func stage() throws -> StagedFile {
        let number = shared.stagings.add(1, ordering: .relaxed).newValue % UInt64(Self.stagingFolders)
        let path = stagingFolder(Int(number))
        let flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC
        var raw = Glibc.open(path, flags)
        if raw < 0, errno == ENOENT {
            try Files.makeDirectories(path)
            raw = Glibc.open(path, flags)
        }
        return try StagedFile(in: Descriptor(try check(raw, "open", path)))
    }

    func stagingFolder(_ number: Int) -> String { "\(staging)/\(number)" }

    /// Opens beneath the root; an empty path is the root itself.
    func open(beneath path: String, _ flags: Int32) throws(DiskError) -> Descriptor {
        let name = path.isEmpty ? "." : path
        return Descriptor(try checkRaw(cl_openat2(root.raw, name, flags | O_NONBLOCK | O_NOCTTY, 0, Self.resolve), "open", name))
    }

    /// The same, with nil for what is not there.
    func openIfPresent(_ path: String, _ flags: Int32) throws(DiskError) -> Descriptor? {
        do { return try open(beneath: path, flags) } catch {
            // ENXIO is a socket, EACCES a device (volumes are mounted without), ELOOP links that go round in circles.
            if [ENOENT, ENOTDIR, ENXIO, ELOOP, EACCES].contains(error.errno) { return nil }
            throw error
        }
    }

    package var freeBytes: Int64 {
        var info = statvfs()
        return fstatvfs(root.raw, &info) == 0 ? Int64(info.f_bavail) * Int64(info.f_frsize) : 0
    }

    // MARK: - Directories

    /// The directory a key lies in, and the key's last name.
    func parent(of key: ObjectKey) -> (path: String, name: String) {
        let path = key.path
        guard let slash = path.lastIndex(of: "/") else { return ("", path) }
        return (String(path[..<slash]), String(path[path.index(after: slash)...]))
    }

    /// Opens a directory, making what is missing of it durably and marked as ours.
    func makeDirectory(_ path: String) throws -> Descriptor {
        do { return try open(beneath: path, O_RDONLY | O_DIRECTORY) } catch {
            guard error.errno == ENOENT else { throw Self.conflict(error, path) }
        }
        var above = root
        var made = ""
        for segment in path.split(separator: "/").map(String.init) {
            made += made.isEmpty ? segment : "/" + segment
            if let known = try openDirectory(made) {
                above = known
                continue
            }
            above = try makeOne(segment, in: above, path: made)
        }
        return above
    }

    private func openDirectory(_ path: String) throws -> Descriptor? {
        do { return try open(beneath: path, O_RDONLY | O_DIRECTORY) } catch {
            if error.errno == ENOENT { return nil }
            throw Self.conflict(error, path)
        }
    }

    private func makeOne(_ name: String, in above: Descriptor, path: String) throws -> Descriptor {
        let isOurs = mkdirat(above.raw, name, 0o777) == 0
        if !isOurs && errno != EEXIST { throw DiskError("mkdir", path: path, errno: errno) }
        let made = try open(beneath: path, O_RDONLY | O_DIRECTORY)
        if isOurs {
            try adopt(made, in: above, path)
            try DirectoryMark.made.write(to: made.raw)
            try durability.made([made, above], path)
        }
        return made
    }

    /// Whoever owns the directory above owns what is made in it; everybody may write, whatever user a handler runs as.
    private func adopt(_ made: Descriptor, in above: Descriptor, _ path: String) throws {
        let owner = try above.status()
        try check(fchmod(made.raw, 0o777), "fchmod", path)
        if owner.st_uid != 0 || owner.st_gid != 0 { try check(fchown(made.raw, owner.st_uid, owner.st_gid), "fchown", path) }
    }

    private static func conflict(_ error: DiskError, _ path: String) -> any Error {
        guard error.errno == ENOTDIR else { return error }
        return S3Error(.keyConflict, "a part of '\(path)' is a file: a volume is a file tree, where a name is a file or a folder")
    }

    /// Removes directories that S3 made and that are empty now, from `path` upwards.
    func prune(from path: String) {
        var path = path
        while !path.isEmpty, let directory = try? openIfPresent(path, O_RDONLY | O_DIRECTORY), DirectoryMark.read(directory.raw) == .made {
            let slash = path.lastIndex(of: "/")
            let above = slash.map { String(path[..<$0]) } ?? ""
            let name = slash.map { String(path[path.index(after: $0)...]) } ?? path
            guard let parent = try? openIfPresent(above, O_RDONLY | O_DIRECTORY), unlinkat(parent.raw, name, AT_REMOVEDIR) == 0 else {
                return
            }
            path = above
        }
    }

    /// Whether a directory has no entry.
    static func isEmpty(_ directory: Descriptor) -> Bool {
        // Read through a descriptor of its own: the position belongs to the open file.
        guard let snapshot = try? DirectorySnapshot(reading: directory, limit: 1) else { return false }
        return snapshot.count == 0
    }
}
