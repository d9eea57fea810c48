import CLinux
import Disk
import Glibc
import Resource

/// A file being written where nobody sees it. It is removed unless it is published.
package final class StagedFile {
    package let descriptor: Descriptor
    private let folder: Descriptor
    private let name: String
    private var isPublished = false
    /// Bytes written so far.
    package private(set) var size: Int64 = 0
    private var flushed: Int64 = 0
    /// Dirty pages are sent to the disk at this pace, so that the last fsync has little left.
    private static let writebackStep: Int64 = 8 << 20

    init(in folder: Descriptor, name: String = Identifier.uuid()) throws {
        self.folder = folder
        self.name = name
        let raw = openat(folder.raw, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        descriptor = Descriptor(try check(raw, "open", name))
    }

    deinit { if !isPublished { unlinkat(folder.raw, name, 0) } }

    package func append(_ bytes: UnsafeRawBufferPointer) throws(DiskError) {
        var rest = bytes
        while let base = rest.baseAddress, !rest.isEmpty {
            let count = pwrite(descriptor.raw, base, rest.count, off_t(size))
            if count < 0 {
                if errno == EINTR { continue }
                throw DiskError("write", path: name, errno: errno)
            }
            size += Int64(count)
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
        startWriteback()
    }

    /// Appends a range of another file, sharing blocks where the filesystem can. `pause` is called between steps.
    ///
    /// Another volume is another filesystem, which shares nothing: then the bytes are copied.
    package func append(from source: Int32, _ range: ByteRange, pause: () -> Void = {}) throws(DiskError) {
        var done: Int64 = 0
        while done < range.length {
            let step = Int(min(range.length - done, 256 << 20))
            let count = cl_copy_range(source, range.offset + done, descriptor.raw, size, step)
            if count == Int64(-EINTR) { continue }
            if [EXDEV, EOPNOTSUPP, ENOSYS, EINVAL].contains(Int32(clamping: -count)) {
                let rest = ByteRange(offset: range.offset + done, length: range.length - done)
                return try copy(from: source, rest, pause)
            }
            guard count > 0 else {
                throw DiskError("copy_file_range", path: name, errno: count == 0 ? EIO : Int32(clamping: -count))
            }
            done += count
            size += count
            startWriteback()
            pause()
        }
    }

    private func copy(from source: Int32, _ range: ByteRange, _ pause: () -> Void) throws(DiskError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { buffer.deallocate() }
        var done: Int64 = 0
        while done < range.length {
            let count = pread(source, buffer.baseAddress, Int(min(range.length - done, Int64(buffer.count))), off_t(range.offset + done))
            guard count > 0 else { throw DiskError("read", path: name, errno: count == 0 ? EIO : errno) }
            try append(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            done += Int64(count)
            pause()
        }
    }

    private func startWriteback() {
        guard size - flushed >= Self.writebackStep else { return }
        cl_start_writeback(descriptor.raw, flushed, size - flushed)
        flushed = size
    }

    /// Gives the file its owner, time and record.
    func seal(_ record: inout ObjectRecord, like parent: stat, time: Int64) throws {
        try check(fchmod(descriptor.raw, 0o666), "fchmod", name)
        if parent.st_uid != 0 || parent.st_gid != 0 { try check(fchown(descriptor.raw, parent.st_uid, parent.st_gid), "fchown", name) }
        // Whole milliseconds, so that whoever rounds agrees.
        let moment = timespec(tv_sec: Int(time / 1_000), tv_nsec: Int(time % 1_000) * 1_000_000)
        try check([moment, moment].withUnsafeBufferPointer { futimens(descriptor.raw, $0.baseAddress) }, "futimens", name)
        record.size = size
        record.modifiedNs = time * 1_000_000
        try record.write(to: descriptor.raw)
    }

    /// Moves it to its name, replacing what is there unless `isNew`.
    func move(to parent: Descriptor, _ target: String, isNew: Bool) throws(DiskError) {
        let flags = isNew ? UInt32(CL_RENAME_NOREPLACE) : 0
        try checkRaw(cl_renameat2(folder.raw, name, parent.raw, target, flags), "rename", target)
        isPublished = true
    }
}
