import CLinux
import Glibc

/// mount(2) and umount2(2) in the server's own mount namespace.
///
/// `roost serve` leaves the host's namespace before its first thread starts. So no mount of ours shows on the host,
/// and when the server dies, however it dies, the kernel undoes all of them that no worker holds.
package enum Mount {
    /// Enters a private mount namespace. Call it while the process has one thread.
    ///
    /// Debian's crun 1.8.1 refuses a hybrid cgroup layout; without the cgroup2 mount it sees plain version 1.
    package static func enterPrivateNamespace() throws(DiskError) {
        try checkRaw(cl_enter_private_mounts(), "unshare", "mount namespace")
        let unified = "/sys/fs/cgroup/unified"
        if cl_fs_type("/sys/fs/cgroup") == Int64(CL_TMPFS_MAGIC), cl_fs_type(unified) == Int64(CL_CGROUP2_MAGIC) {
            try checkRaw(cl_umount(unified, 1), "umount", unified)
        }
    }

    /// `isForeign` is for what others write and we read: device nodes and set-user-id bits on it mean nothing.
    package static func filesystem(
        _ source: String, at target: String, type: String, readOnly: Bool = false, isForeign: Bool = false, options: String = ""
    ) throws(DiskError) {
        var flags = UInt(CL_MS_NOATIME)
        if isForeign { flags |= UInt(CL_MS_NODEV) | UInt(CL_MS_NOSUID) }
        if readOnly { flags |= UInt(CL_MS_RDONLY) }
        try checkRaw(cl_mount(source, target, type, flags, options), "mount \(type)", target)
    }

    /// An overlay whose upper side is thrown away with the worker: `volatile` leaves out every sync of it.
    ///
    /// `lower` are names in the folder `from`: the kernel takes one page of options, which whole paths of 100 layers overflow.
    package static func overlay(
        lower: [String], from folder: String, upper: String, work: String, at target: String
    ) throws(DiskError) {
        let options = "lowerdir=\(lower.joined(separator: ":")),upperdir=\(upper),workdir=\(work),volatile"
        guard options.utf8.count < 4_096 else {
            throw DiskError("mount overlay", path: target, detail: "\(lower.count) layers are too many for one mount")
        }
        try checkRaw(cl_mount_from(folder, "overlay", target, "overlay", options), "mount overlay", target)
    }

    /// Unmounts; with `lazily`, at once for us and once unused for the kernel. No mount there is no error.
    package static func remove(_ target: String, lazily: Bool = false) throws(DiskError) {
        let outcome = cl_umount(target, lazily ? 1 : 0)
        if outcome == -EINVAL || outcome == -ENOENT { return }
        try checkRaw(outcome, "umount", target)
    }

    package static func isMounted(_ target: String) -> Bool {
        guard let here = try? Files.status(target), let above = try? Files.status(Files.parent(of: target)) else {
            return false
        }
        return here.st_dev != above.st_dev
    }
}
