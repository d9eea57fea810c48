import CLinux
import Glibc

/// Which files processes open on some mounts, as the kernel tells it (fanotify). It costs the opener less than a microsecond, keeps nobody
/// waiting, and remembers the first 16,384 opens: more than a start has.
package final class OpenRecorder: Sendable {
    /// A regular file with something in it. Size and time of change tell whether a file found elsewhere is the same.
    package struct Opened: Sendable, Equatable {
        /// Where its mounts put it: as the container sees it.
        package var path: String
        package var size: Int64
        /// Nanoseconds since 1970.
        package var modifiedAt: Int64
    }

    private let queue: Int32

    package init() throws(DiskError) { queue = try checkRaw(cl_opens(), "fanotify_init", "") }

    /// Ends the recording; what was not taken is forgotten.
    deinit { close(queue) }

    /// Watches the filesystem that `path` lies on, through whatever mount it is opened.
    package func add(filesystem path: String) throws(DiskError) { _ = try checkRaw(cl_opens_add(queue, path, 1), "fanotify_mark", path) }

    /// Watches the mount that `path` lies on, for which it may be seen in another mount namespace, below `/proc/PID/root`.
    package func add(mount path: String) throws(DiskError) { _ = try checkRaw(cl_opens_add(queue, path, 0), "fanotify_mark", path) }

    /// Takes what was opened so far: every file once, in the order of its first opening.
    package func take() -> [Opened] {
        var opened: [Opened] = []
        var seen: Set<String> = []
        var files = [Int32](repeating: -1, count: 64)
        while true {
            let count = Int(cl_opens_next(queue, &files, Int32(files.count)))
            guard count > 0 else { return opened }
            for file in files[..<count] {
                defer { close(file) }
                guard let found = Self.describe(file), seen.insert(found.path).inserted else { continue }
                opened.append(found)
            }
        }
    }

    private static func describe(_ file: Int32) -> Opened? {
        var info = stat()
        guard fstat(file, &info) == 0, info.st_mode & S_IFMT == S_IFREG, info.st_size > 0 else { return nil }
        var path = [CChar](repeating: 0, count: Int(PATH_MAX))
        let length = readlink("/proc/self/fd/\(file)", &path, path.count)
        guard length > 0, length < path.count else { return nil }
        return Opened(
            path: String(decoding: path[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self), size: Int64(info.st_size),
            modifiedAt: info.modifiedNanoseconds)
    }
}

extension stat {
    /// Nanoseconds since 1970 of its last change; clamped where a file claims a time that no clock has.
    package var modifiedNanoseconds: Int64 {
        let (product, overflow) = Int64(st_mtim.tv_sec).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .max : product.addingReportingOverflow(Int64(st_mtim.tv_nsec)).partialValue
    }
}
