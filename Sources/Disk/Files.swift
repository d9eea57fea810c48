import CLinux
import Glibc

/// Whole-file operations with one rule: what is reported done is on the disk.
package enum Files {
    /// Opens `path`, runs `body`, closes.
    package static func withDescriptor<Value>(
        _ path: String, flags: Int32, mode: mode_t = 0o600, _ body: (Int32) throws -> Value
    ) throws -> Value {
        let descriptor = try check(open(path, flags | O_CLOEXEC, mode), "open", path)
        defer { close(descriptor) }
        return try body(descriptor)
    }

    /// Replaces `path` by a file of `bytes`: stage, fsync, rename, fsync the directory.
    package static func replace(_ path: String, with bytes: [UInt8], mode: mode_t = 0o600) throws {
        let staged = path + ".staged"
        do {
            try withDescriptor(staged, flags: O_WRONLY | O_CREAT | O_TRUNC, mode: mode) { descriptor in
                try write(bytes, to: descriptor, path: staged)
                try check(fsync(descriptor), "fsync", staged)
            }
            try check(rename(staged, path), "rename", path)
        } catch {
            unlink(staged)
            throw error
        }
        try syncDirectory(parent(of: path))
    }

    package static func write(_ bytes: [UInt8], to descriptor: Int32, path: String) throws(DiskError) {
        var offset = 0
        while offset < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                Glibc.write(descriptor, buffer.baseAddress.map { $0 + offset }, buffer.count - offset)
            }
            if count < 0 {
                if errno == EINTR { continue }
                throw DiskError("write", path: path, errno: errno)
            }
            offset += count
        }
    }

    /// Reads a small file. Refuses more than `limit` bytes.
    package static func read(_ path: String, limit: Int = 16 << 20) throws -> [UInt8] {
        try withDescriptor(path, flags: O_RDONLY) { descriptor in try read(descriptor, path: path, limit: limit) }
    }

    package static func read(_ descriptor: Int32, path: String, limit: Int) throws(DiskError) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw DiskError("read", path: path, errno: errno)
            }
            if count == 0 { return bytes }
            bytes += chunk[..<count]
            if bytes.count > limit { throw DiskError("read", path: path, errno: EFBIG) }
        }
    }

    /// Makes names in a directory durable.
    package static func syncDirectory(_ path: String) throws {
        _ = try withDescriptor(path, flags: O_RDONLY | O_DIRECTORY) { try check(fsync($0), "fsync", path) }
    }

    /// Makes a directory and those above it.
    package static func makeDirectories(_ path: String, mode: mode_t = 0o700) throws(DiskError) {
        if isDirectory(path) { return }
        let above = parent(of: path)
        if above != path && !above.isEmpty { try makeDirectories(above, mode: mode) }
        if mkdir(path, mode) < 0 && errno != EEXIST { throw DiskError("mkdir", path: path, errno: errno) }
    }

    /// Removes a file or tree; nothing is there afterwards, or an error says why. Symlinks are removed, not followed.
    package static func remove(_ path: String) throws(DiskError) {
        guard let info = try? status(path) else { return }
        if info.st_mode & S_IFMT == S_IFDIR {
            for name in try names(in: path) { try remove(path + "/" + name) }
            if rmdir(path) < 0 && errno != ENOENT { throw DiskError("rmdir", path: path, errno: errno) }
        } else if unlink(path) < 0 && errno != ENOENT {
            throw DiskError("unlink", path: path, errno: errno)
        }
    }

    /// Entries of a directory, sorted, without `.` and `..`. A directory that is not there has none.
    package static func names(in path: String) throws(DiskError) -> [String] {
        guard let directory = opendir(path) else {
            if errno == ENOENT { return [] }
            throw DiskError("opendir", path: path, errno: errno)
        }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { raw in
                String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    package static func status(_ path: String) throws(DiskError) -> stat {
        var info = stat()
        try check(lstat(path, &info), "lstat", path)
        return info
    }

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    package static func isDirectory(_ path: String) -> Bool {
        var info = stat()
        return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
    }

    package static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Free and total bytes of the filesystem that holds `path`, as `df` shows them.
    package static func space(at path: String) throws(DiskError) -> DiskSpace {
        var info = statvfs()
        try check(statvfs(path, &info), "statvfs", path)
        let unit = Int64(info.f_frsize)
        return DiskSpace(
            total: Int64(info.f_blocks) * unit, used: Int64(info.f_blocks - info.f_bfree) * unit,
            free: Int64(info.f_bavail) * unit, freeFiles: Int64(clamping: info.f_favail))
    }

    /// Copies a sparse file's data; holes stay holes.
    package static func copySparse(_ from: String, to: String) throws {
        try withDescriptor(from, flags: O_RDONLY) { source in
            try withDescriptor(to, flags: O_RDWR | O_CREAT | O_EXCL) { target in
                _ = try checkRaw(cl_copy_sparse(source, target), "copy_file_range", to)
            }
        }
    }

    /// The one holder of a lock file, or nil when another process holds it. The lock ends with the process.
    package static func lock(_ path: String) throws -> Int32? {
        let descriptor = try check(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600), "open", path)
        let outcome = cl_try_lock(descriptor)
        if outcome >= 0 { return descriptor }
        close(descriptor)
        if outcome == -EWOULDBLOCK { return nil }
        throw DiskError("flock", path: path, errno: -outcome)
    }

    /// Whether some process holds a lock file's lock.
    package static func isLocked(_ path: String) throws -> Bool {
        guard exists(path) else { return false }
        guard let descriptor = try lock(path) else { return true }
        close(descriptor)
        return false
    }
}

/// Bytes of a filesystem.
package struct DiskSpace: Sendable, Equatable {
    package var total: Int64
    package var used: Int64
    package var free: Int64
    package var freeFiles: Int64
}
