import CLinux
import Glibc

/// A file as a block device. Devices clear themselves when the last mount of them goes.
package struct LoopDevice: Sendable {
    package let number: Int32
    /// Open until `release`, which holds the device until a mount does.
    private let descriptor: Int32

    package var path: String { "/dev/loop\(number)" }

    /// Attaches a file, or finds the device it is attached to already: two devices of one file would corrupt it.
    package static func attach(_ file: String, readOnly: Bool = false) throws -> LoopDevice {
        try Files.withDescriptor(file, flags: readOnly ? O_RDONLY : O_RDWR) { descriptor in
            var info = stat()
            try check(fstat(descriptor, &info), "fstat", file)
            var device: Int32 = -1
            var number = cl_loop_find(UInt64(info.st_dev), UInt64(info.st_ino), &device)
            if number < 0 { number = cl_loop_attach(descriptor, readOnly ? 1 : 0, file, &device) }
            try checkRaw(number, "attach loop device", file)
            return LoopDevice(number: number, descriptor: device)
        }
    }

    package func release() { close(descriptor) }

    /// Takes over a new size of the file.
    package func refreshSize() throws(DiskError) { try checkRaw(cl_loop_refresh_size(number), "resize", path) }
}
