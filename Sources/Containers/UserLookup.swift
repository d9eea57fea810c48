import CLinux
import Disk
import Glibc
import Resource

/// Finds the numbers of an image's `USER` in the image's own `/etc/passwd` and `/etc/group`.
enum UserLookup {
    struct Identity: Equatable {
        var user: Int
        var group: Int
    }

    static func resolve(_ text: String, rootfs: String) throws -> Identity {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let name = parts.first, !name.isEmpty else { return Identity(user: 0, group: 0) }
        let entry = try lines("etc/passwd", rootfs: rootfs).first { $0.first == name || ($0.count > 2 && $0[2] == name) }
        guard let user = Int(name) ?? entry.flatMap({ $0.count > 2 ? Int($0[2]) : nil }) else {
            throw RoostError(.invalid, "the image's user '\(name)' is not in its /etc/passwd")
        }
        guard parts.count > 1 else { return Identity(user: user, group: entry.flatMap { $0.count > 3 ? Int($0[3]) : nil } ?? 0) }
        let group = try lines("etc/group", rootfs: rootfs).first { $0.first == parts[1] }
        guard let number = Int(parts[1]) ?? group.flatMap({ $0.count > 2 ? Int($0[2]) : nil }) else {
            throw RoostError(.invalid, "the image's group '\(parts[1])' is not in its /etc/group")
        }
        return Identity(user: user, group: number)
    }

    /// The image may hold any symlink: the file is looked up as if `rootfs` were `/`.
    private static func lines(_ path: String, rootfs: String) throws -> [[String]] {
        try Files.withDescriptor(rootfs, flags: O_RDONLY | O_DIRECTORY) { folder in
            let file = cl_openat2(folder, path, O_RDONLY, 0, UInt64(CL_RESOLVE_IN_ROOT) | UInt64(CL_RESOLVE_NO_MAGICLINKS))
            guard file >= 0 else { return [] }
            defer { close(file) }
            let text = String(decoding: try Files.read(file, path: path, limit: 1 << 20), as: UTF8.self)
            return text.split(separator: "\n").map { line in
                line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            }
        }
    }
}
