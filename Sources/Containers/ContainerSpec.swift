import Disk
import Glibc
import Resource

/// What a container is to be, before it is written as an OCI runtime configuration.
package struct ContainerSpec: Sendable {
    package struct Bind: Sendable {
        package var source: String
        package var target: String
        package var isReadOnly: Bool

        package init(source: String, target: String, isReadOnly: Bool = false) {
            self.source = source
            self.target = target
            self.isReadOnly = isReadOnly
        }
    }

    package var id: String
    package var rootfs: String
    package var arguments: [String]
    package var env: [String]
    package var workingDirectory: String
    /// `user`, `user:group`, by name or number, as images say it. Empty is root.
    package var user: String
    package var vcpus: Int
    package var memoryBytes: Int64
    package var binds: [Bind]

    package init(
        id: String, rootfs: String, arguments: [String], env: [String], workingDirectory: String, user: String, vcpus: Int,
        memoryBytes: Int64, binds: [Bind]
    ) {
        self.id = id
        self.rootfs = rootfs
        self.arguments = arguments
        self.env = env
        self.workingDirectory = workingDirectory
        self.user = user
        self.vcpus = vcpus
        self.memoryBytes = memoryBytes
        self.binds = binds
    }

    /// Enough for files, users and low ports; nothing that reaches the host. CAP_SYS_RESOURCE would bypass quotas.
    private static let capabilities: [String] = [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETGID",
        "CAP_SETUID",
    ]
    /// Processes and threads of one worker.
    private static let processLimit = 2_048

    /// The configuration of the OCI runtime specification, version 1.0.2.
    package func configuration() throws -> JSON {
        let identity = try UserLookup.resolve(user, rootfs: rootfs)
        let capabilities = JSON.strings(Self.capabilities)
        return [
            "ociVersion": "1.0.2",
            "hostname": .string(id),
            "root": ["path": .string(rootfs), "readonly": false],
            "process": [
                "terminal": false,
                "user": ["uid": .int(identity.user), "gid": .int(identity.group)],
                "args": .strings(arguments),
                "env": .strings(env),
                "cwd": .string(workingDirectory.isEmpty ? "/" : workingDirectory),
                "noNewPrivileges": true,
                "capabilities": [
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities, "inheritable": [],
                    "ambient": [],
                ],
                "rlimits": [Self.openFiles],
            ],
            "mounts": .array(Self.systemMounts + binds.map(Self.mount)),
            "linux": linux,
        ]
    }

    private var linux: JSON {
        [
            // The network namespace is the host's: workers reach Roost and the internet as the host does.
            "namespaces": [["type": "pid"], ["type": "mount"], ["type": "ipc"], ["type": "uts"]],
            "cgroupsPath": .string("/roost/" + id),
            "resources": [
                "memory": ["limit": .int(Int(memoryBytes)), "swap": .int(Int(memoryBytes))],
                "cpu": ["period": 100_000, "quota": .int(vcpus * 100_000), "shares": .int(min(vcpus * 1_024, 262_144))],
                "pids": ["limit": .int(Self.processLimit)],
                "devices": [["allow": false, "access": "rwm"]],
            ],
            "rootfsPropagation": "rprivate",
            "seccomp": Seccomp.profile,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap", "/sys/fs/cgroup",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        ]
    }

    /// Not above the host's: without CAP_SYS_RESOURCE a higher hard limit is refused.
    private static var openFiles: JSON {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        let hard = min(limit.rlim_max, 1_048_576)
        return ["type": "RLIMIT_NOFILE", "soft": .int(Int(min(hard, 65_536))), "hard": .int(Int(hard))]
    }

    private static let systemMounts: [JSON] = [
        system("/proc", "proc", ["nosuid", "noexec", "nodev"]),
        system("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        system("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        system("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777"]),
        system("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        system("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ]

    private static func system(_ target: String, _ type: String, _ options: [String]) -> JSON {
        ["destination": .string(target), "type": .string(type), "source": .string(type), "options": .strings(options)]
    }

    private static func mount(_ bind: Bind) -> JSON {
        [
            "destination": .string(bind.target), "type": "bind", "source": .string(bind.source),
            "options": .strings(["rbind", "rprivate", "nosuid", "nodev", bind.isReadOnly ? "ro" : "rw"]),
        ]
    }
}
