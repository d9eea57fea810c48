import CLinux
import Glibc
import Resource

/// Network volumes as one file each, with its own XFS: exact size, `df` true, growth while mounted, reflinks inside.
///
/// The user's tree is `data/`; `staging/` beside it, on the same filesystem, is ours. The file's blocks are reserved
/// when it is made, so a full host disk cannot break a volume.
package struct VolumeStore: Sendable {
    /// A mounted volume.
    package struct Opened: Sendable {
        package var mountPoint: String
        package var dataPath: String { mountPoint + "/data" }
        package var stagingPath: String { mountPoint + "/staging" }
    }

    /// Directory of mount points.
    private let mounts: String
    /// Volume files by data center.
    private let roots: [String: String]

    package init(mounts: String, roots: [String: String]) {
        self.mounts = mounts
        self.roots = roots
    }

    /// Makes the file and its filesystem. Safe to repeat after a crash: it starts anew.
    package func create(_ volume: NetworkVolume) async throws {
        let file = try file(of: volume)
        let staged = file + ".making"
        do {
            try await Blocking.run {
                try Files.makeDirectories(Files.parent(of: file))
                try Files.remove(staged)
                try Files.withDescriptor(staged, flags: O_RDWR | O_CREAT | O_EXCL) {
                    try reserve(volume.bytes, of: $0, path: staged)
                }
            }
            try await Command.run("mkfs.xfs", ["-q", "-K", "-f", "-m", "reflink=1", "-L", label(volume), staged])
            try await Blocking.run {
                _ = try Files.withDescriptor(staged, flags: O_RDWR) { try check(fsync($0), "fsync", staged) }
                try check(rename(staged, file), "rename", file)
                try Files.syncDirectory(Files.parent(of: file))
            }
        } catch {
            unlink(staged)
            throw error
        }
        _ = try await open(volume)
    }

    /// Where it is mounted once it is open.
    package func paths(of volume: NetworkVolume) -> Opened { Opened(mountPoint: mounts + "/" + volume.id) }

    /// Mounts it, once; finishes a growth that a crash cut short.
    package func open(_ volume: NetworkVolume) async throws -> Opened {
        let file = try file(of: volume)
        let opened = paths(of: volume)
        if Mount.isMounted(opened.mountPoint) { return opened }
        try await Blocking.run {
            try Files.makeDirectories(opened.mountPoint)
            let device = try LoopDevice.attach(file)
            defer { device.release() }
            try Mount.filesystem(device.path, at: opened.mountPoint, type: "xfs", isForeign: true, options: "inode64,logbsize=256k")
            try prepare(opened)
        }
        if try await Blocking.run({ try Files.status(file).st_size }) < volume.bytes {
            try await grow(volume)
        } else {
            try await Command.run("xfs_growfs", ["-d", opened.mountPoint])
        }
        return opened
    }

    /// Takes over the size in `volume`, while workers use it. Blocks are reserved before anything changes.
    package func grow(_ volume: NetworkVolume) async throws {
        let file = try file(of: volume)
        let opened = paths(of: volume)
        try await Blocking.run {
            try Files.withDescriptor(file, flags: O_RDWR) { descriptor in
                try reserve(volume.bytes, of: descriptor, path: file)
                try check(fsync(descriptor), "fsync", file)
            }
            let device = try LoopDevice.attach(file)
            defer { device.release() }
            try device.refreshSize()
        }
        try await Command.run("xfs_growfs", ["-d", opened.mountPoint])
    }

    /// Removes volume and file. The caller made sure that nobody has it.
    package func remove(_ volume: NetworkVolume) async throws {
        let file = try file(of: volume)
        let mountPoint = mounts + "/" + volume.id
        try await Blocking.run {
            // An S3 download may still read: what it reads goes with it.
            try Mount.remove(mountPoint, lazily: true)
            try Files.remove(mountPoint)
            try Files.remove(file)
            try Files.remove(file + ".making")
            if Files.exists(Files.parent(of: file)) { try Files.syncDirectory(Files.parent(of: file)) }
        }
    }

    package func space(of volume: NetworkVolume) throws -> DiskSpace { try Files.space(at: mounts + "/" + volume.id) }

    /// Files in the storage roots that no volume of `known` owns: their names, for the log. They are never removed:
    /// a volume that the database forgot is still somebody's data.
    package func strangers(known: Set<String>) throws -> [String] {
        try roots.values.sorted().flatMap { root in
            try Files.names(in: root).filter { $0.hasSuffix(".xfs") && !known.contains(String($0.dropLast(4))) }
                .map { root + "/" + $0 }
        }
    }

    /// Reserves a file's blocks. Asked first whether they are there: fallocate takes what it can get before it fails,
    /// and a disk full for a moment is a disk full for everybody else on it.
    private func reserve(_ bytes: Int64, of descriptor: Int32, path: String) throws(DiskError) {
        var info = stat()
        try check(fstat(descriptor, &info), "fstat", path)
        let missing = bytes - Int64(info.st_blocks) * 512
        // One part in 64 covers the filesystem's own books of so large a file.
        guard try Files.space(at: path).free > missing + missing / 64 else {
            throw DiskError("fallocate", path: path, errno: ENOSPC)
        }
        try checkRaw(cl_allocate(descriptor, bytes), "fallocate", path)
    }

    private func file(of volume: NetworkVolume) throws(DiskError) -> String {
        guard let root = roots[volume.dataCenterId] else {
            throw DiskError("open volume", path: volume.id, detail: "data center \(volume.dataCenterId) is not configured")
        }
        return root + "/" + volume.id + ".xfs"
    }

    /// XFS labels end at 12 bytes.
    private func label(_ volume: NetworkVolume) -> String { String(volume.id.prefix(12)) }

    /// `data/` is everybody's: images run their handlers as whatever user they like.
    private func prepare(_ opened: Opened) throws {
        if !Files.isDirectory(opened.stagingPath) { try check(mkdir(opened.stagingPath, 0o700), "mkdir", opened.stagingPath) }
        guard !Files.isDirectory(opened.dataPath) else { return }
        try check(mkdir(opened.dataPath, 0o777), "mkdir", opened.dataPath)
        try check(chmod(opened.dataPath, 0o777), "chmod", opened.dataPath)
        try Files.syncDirectory(opened.mountPoint)
    }
}
