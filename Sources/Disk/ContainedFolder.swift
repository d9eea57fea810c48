import CLinux
import Glibc

/// A folder that others write to, as a running container's `/`, reached from outside. They may put links anywhere in it: the kernel
/// resolves every path as if the folder were `/`, so none leads out of it.
package final class ContainedFolder: Sendable {
    private let root: Int32

    private static let resolve = UInt64(CL_RESOLVE_IN_ROOT) | UInt64(CL_RESOLVE_NO_MAGICLINKS)

    /// `root` is a path of ours to it.
    package init(root: String) throws {
        self.root = try check(Glibc.open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", root)
    }

    deinit { close(root) }

    /// Free bytes of the filesystem that `/` lies on.
    package var freeBytes: Int64 {
        var info = statvfs()
        return fstatvfs(root, &info) == 0 ? Int64(info.f_bavail) * Int64(info.f_frsize) : 0
    }

    /// Gives `body` a path of ours to a folder in it.
    package func withFolder<Value>(_ path: String, _ body: (String) throws -> Value) throws -> Value {
        let folder = try open(beneath: path, O_RDONLY | O_DIRECTORY)
        defer { close(folder) }
        return try body("/proc/self/fd/\(folder)")
    }

    /// Opens a regular file for reading, without marking it as read. Nil where there is none.
    package func openFile(_ path: String) -> (descriptor: Int32, info: stat)? {
        // Whatever else lies there is not waited for: a pipe would have us wait for its writer.
        guard let file = try? open(beneath: path, O_RDONLY | O_NONBLOCK | Int32(CL_O_NOATIME) | O_NOFOLLOW) else { return nil }
        var info = stat()
        if fstat(file, &info) == 0, info.st_mode & S_IFMT == S_IFREG { return (file, info) }
        close(file)
        return nil
    }

    /// Makes a file for everybody to read, with the folders above it, and lets `body` write it.
    package func makeFile(_ path: String) throws -> Int32 {
        var made = ""
        let parts = path.split(separator: "/").map(String.init)
        for part in parts.dropLast() {
            let above = try open(beneath: made, O_RDONLY | O_DIRECTORY)
            defer { close(above) }
            if mkdirat(above, part, 0o755) < 0 && errno != EEXIST { throw DiskError("mkdir", path: path, errno: errno) }
            made += made.isEmpty ? part : "/" + part
        }
        let folder = try open(beneath: made, O_RDONLY | O_DIRECTORY)
        defer { close(folder) }
        let file = openat(folder, parts.last ?? "", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o644)
        return try check(file, "open", path)
    }

    /// Removes a folder's files and the folder itself, unless something else was put into it.
    package func removeFlat(_ path: String) {
        guard let folder = try? open(beneath: path, O_RDONLY | O_DIRECTORY) else { return }
        defer { close(folder) }
        for name in (try? Files.names(in: "/proc/self/fd/\(folder)")) ?? [] { unlinkat(folder, name, 0) }
        guard let slash = path.lastIndex(of: "/"), let above = try? open(beneath: String(path[..<slash]), O_RDONLY | O_DIRECTORY) else {
            return
        }
        unlinkat(above, String(path[path.index(after: slash)...]), AT_REMOVEDIR)
        close(above)
    }

    private func open(beneath path: String, _ flags: Int32) throws(DiskError) -> Int32 {
        try checkRaw(cl_openat2(root, path.isEmpty ? "." : path, flags | O_CLOEXEC, 0, Self.resolve), "open", path)
    }
}
