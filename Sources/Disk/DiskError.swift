import Glibc
import Resource

/// A failed system call or tool, with what it was for.
package struct DiskError: Error, Sendable, CustomStringConvertible {
    /// The call or tool, for example `rename` or `mkfs.xfs`.
    package var operation: String
    package var path: String
    /// 0 when a tool failed rather than a call.
    package var errno: Int32
    package var detail: String

    package init(_ operation: String, path: String, errno: Int32 = 0, detail: String = "") {
        self.operation = operation
        self.path = path
        self.errno = errno
        self.detail = detail
    }

    /// Full is one error, whether the disk or a quota said so.
    package var isNoSpace: Bool { errno == ENOSPC || errno == EDQUOT }

    package var description: String {
        let cause = errno == 0 ? detail : String(cString: strerror(errno))
        return "\(operation) \(path): \(cause)"
    }

    /// The same as the error of the layers above.
    package var roostError: RoostError { RoostError(isNoSpace ? .noSpace : .internalFault, description) }
}

/// Throws for a call that returned -1, reading `errno` at once.
@discardableResult
package func check(_ result: Int32, _ operation: String, _ path: String) throws(DiskError) -> Int32 {
    guard result >= 0 else { throw DiskError(operation, path: path, errno: Glibc.errno) }
    return result
}

/// Throws for a `CLinux` call, which returns -errno.
@discardableResult
package func checkRaw(_ result: Int32, _ operation: String, _ path: String) throws(DiskError) -> Int32 {
    guard result >= 0 else { throw DiskError(operation, path: path, errno: -result) }
    return result
}
