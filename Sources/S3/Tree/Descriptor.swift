import Disk
import Glibc

/// An open file that closes itself with its last reference.
package final class Descriptor: Sendable {
    package let raw: Int32

    package init(_ raw: Int32) { self.raw = raw }

    deinit { close(raw) }

    package func status() throws(DiskError) -> stat {
        var info = stat()
        try check(fstat(raw, &info), "fstat", "\(raw)")
        return info
    }

    package func sync(_ what: String) throws(DiskError) { try check(fsync(raw), "fsync", what) }
}

extension stat {
    package var isDirectory: Bool { st_mode & S_IFMT == S_IFDIR }
    package var isFile: Bool { st_mode & S_IFMT == S_IFREG }
    package var isSymlink: Bool { st_mode & S_IFMT == S_IFLNK }
    /// Nanoseconds since 1970.
    package var modifiedNs: Int64 {
        Int64(st_mtim.tv_sec).multipliedReportingOverflow(by: 1_000_000_000).partialValue &+ Int64(st_mtim.tv_nsec)
    }
}
