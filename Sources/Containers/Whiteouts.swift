import CLinux
import Disk
import Glibc

/// OCI layers say "gone from here on" with files called `.wh.NAME` and `.wh..wh..opq`; overlayfs says it with 0/0
/// devices and an attribute. Turns the first into the second.
enum Whiteouts {
    private static let prefix = ".wh."
    private static let opaque = ".wh..wh..opq"

    static func convert(_ folder: String) throws {
        for name in try Files.names(in: folder) {
            let path = folder + "/" + name
            if name == opaque {
                try Files.remove(path)
                try checkRaw(cl_mark_opaque(folder), "setxattr", folder)
            } else if name.hasPrefix(prefix) {
                try Files.remove(path)
                try hide(String(name.dropFirst(prefix.count)), in: folder)
            } else if try Files.status(path).st_mode & S_IFMT == S_IFDIR {
                try convert(path)
            }
        }
    }

    private static func hide(_ name: String, in folder: String) throws {
        guard !name.isEmpty, name != ".", name != ".." else { return }
        _ = try Files.withDescriptor(folder, flags: O_RDONLY | O_DIRECTORY) {
            try checkRaw(cl_make_whiteout($0, name), "mknod", folder + "/" + name)
        }
    }
}
