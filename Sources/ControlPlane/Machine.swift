import CLinux
import Disk
import Glibc
import Resource

/// The machine Roost runs on, and whether it will do.
package enum Machine {
    package static var cores: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    /// CPU is shared by time: by default a data center lends out each core eight times.
    package static var defaultVcpus: Int { cores * 8 }

    /// All memory of the machine in bytes.
    package static var memoryBytes: Int64 { Int64(sysconf(Int32(_SC_PHYS_PAGES))) * Int64(sysconf(Int32(_SC_PAGESIZE))) }

    /// What the kernel could give to new processes, in bytes.
    package static var availableMemoryBytes: Int64 {
        let text = (try? Files.read("/proc/meminfo")).map { String(decoding: $0, as: UTF8.self) } ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        return (line?.split(separator: " ").dropFirst().first).flatMap { Int64($0) }.map { $0 << 10 } ?? .max
    }

    /// One thing looked at by `roost doctor`.
    package struct Finding: Sendable, Equatable {
        package var subject: String
        package var isGood: Bool
        /// Whether the server cannot do without it. A full disk only holds up new workers: what was accepted can be read.
        package var isVital = true
        /// What was found; for a bad one, what to do.
        package var detail: String
    }

    /// Looks at everything workers need. `roost serve` refuses with the same words.
    package static func examine(_ configuration: ServerConfiguration) -> [Finding] {
        [
            privileges(), loopDevices(), filesystem("overlay", remedy: "load it: modprobe overlay"),
            filesystem("erofs", remedy: "load it: modprobe erofs"), filesystem("xfs", remedy: "load it: modprobe xfs"),
            filesystem("ext4", remedy: "load it: modprobe ext4"), cgroups(), runtime(configuration.runtime),
            tool("mkfs.ext4", package: "e2fsprogs"), tool("mkfs.xfs", package: "xfsprogs"),
            tool("mkfs.erofs", package: "erofs-utils"), tool("skopeo", package: "skopeo"), tool("tar", package: "tar"),
            disk(configuration),
        ]
    }

    private static func finding(_ subject: String, _ isGood: Bool, _ good: String, else bad: String) -> Finding {
        Finding(subject: subject, isGood: isGood, detail: isGood ? good : bad)
    }

    private static func privileges() -> Finding {
        // CAP_SYS_ADMIN is bit 21 of the effective set.
        let status = (try? Files.read("/proc/self/status")).map { String(decoding: $0, as: UTF8.self) } ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("CapEff:") }
        let mask = line.flatMap { UInt64($0.dropFirst(7).filter { !$0.isWhitespace }, radix: 16) } ?? 0
        return finding(
            "privileges", geteuid() == 0 && mask & (1 << 21) != 0, "root with CAP_SYS_ADMIN",
            else: "not root with CAP_SYS_ADMIN: run roost with sudo (it mounts disks and starts containers)")
    }

    private static func loopDevices() -> Finding {
        finding(
            "loop devices", access("/dev/loop-control", R_OK | W_OK) == 0, "/dev/loop-control is there",
            else: "no /dev/loop-control: modprobe loop, or give the container its device")
    }

    private static func filesystem(_ name: String, remedy: String) -> Finding {
        let known = (try? Files.read("/proc/filesystems")).map { String(decoding: $0, as: UTF8.self) } ?? ""
        let isThere = known.split(whereSeparator: \.isWhitespace).contains { $0 == name }
        return finding(name, isThere, "known to the kernel", else: "the kernel does not know \(name); \(remedy)")
    }

    private static func cgroups() -> Finding {
        let isV2 = cl_fs_type("/sys/fs/cgroup") == Int64(CL_CGROUP2_MAGIC)
        let isV1 = Files.isDirectory("/sys/fs/cgroup/memory") && Files.isDirectory("/sys/fs/cgroup/cpu")
        let writable = access(isV2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory", W_OK) == 0
        return finding(
            "cgroups", (isV1 || isV2) && writable, isV2 ? "version 2" : "version 1",
            else: "no writable cgroups at /sys/fs/cgroup: mount them, or run outside an unprivileged container")
    }

    private static func runtime(_ preferred: String?) -> Finding {
        let names = preferred.map { [$0] } ?? ["crun", "runc"]
        let found = names.compactMap { $0.hasPrefix("/") ? (Files.exists($0) ? $0 : nil) : Command.find($0) }.first
        return finding("OCI runtime", found != nil, found ?? "", else: "none of \(names.joined(separator: ", ")): apt-get install crun")
    }

    private static func tool(_ name: String, package: String) -> Finding {
        let found = Command.find(name)
        return finding(name, found != nil, found ?? "", else: "not found: apt-get install \(package)")
    }

    private static func disk(_ configuration: ServerConfiguration) -> Finding {
        var folder = configuration.dataDirectory
        while !Files.exists(folder), folder != "/", !folder.isEmpty { folder = Files.parent(of: folder) }
        guard let space = try? Files.space(at: folder) else { return finding("disk", false, "", else: "\(folder) cannot be read") }
        let needed = configuration.diskReserveBytes
        var disk = finding(
            "disk", space.free > needed, "\(space.free >> 30) GiB free at \(folder)",
            else: "\(space.free >> 20) MiB free at \(folder), more than \(needed >> 20) needed: free some, or set diskReserveGb")
        disk.isVital = false
        return disk
    }
}
