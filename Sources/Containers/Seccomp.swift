import Resource

/// The system calls a worker may not make: those that load code into the kernel, change mounts, namespaces or the
/// machine, read other processes, or have a record of kernel bugs no handler needs to be exposed to.
enum Seccomp {
    private static let errnoEPERM = 1
    private static let errnoENOSYS = 38

    private static let denied = [
        // mounts and roots
        "mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsmount", "fspick", "fsconfig",
        "mount_setattr", "quotactl", "quotactl_fd", "swapon", "swapoff",
        // namespaces
        "unshare", "setns",
        // kernel code and keys
        "bpf", "init_module", "finit_module", "delete_module", "create_module", "kexec_load", "kexec_file_load",
        "add_key", "request_key", "keyctl", "perf_event_open", "userfaultfd", "lookup_dcookie",
        // other processes and files by handle
        "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "open_by_handle_at", "fanotify_init",
        // the machine
        "reboot", "acct", "syslog", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "iopl", "ioperm",
        "sethostname", "setdomainname", "vhangup", "nfsservctl", "vm86", "vm86old", "mbind", "migrate_pages", "move_pages",
        // a way around all of the above
        "io_uring_setup", "io_uring_enter", "io_uring_register",
    ]

    static let profile: JSON = [
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            ["names": .strings(denied), "action": "SCMP_ACT_ERRNO", "errnoRet": .int(errnoEPERM)],
            // Its flags lie in memory, where a filter cannot look; C libraries fall back to clone.
            ["names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": .int(errnoENOSYS)],
            namespaceClone(0x0002_0000), namespaceClone(0x0200_0000), namespaceClone(0x0400_0000),
            namespaceClone(0x0800_0000), namespaceClone(0x1000_0000), namespaceClone(0x2000_0000),
            namespaceClone(0x4000_0000),
            // AF_ALG and AF_VSOCK sockets
            socket(family: 38), socket(family: 40),
        ],
    ]

    private static func namespaceClone(_ flag: Int) -> JSON {
        [
            "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": .int(errnoEPERM),
            "args": [["index": 0, "value": .int(flag), "valueTwo": .int(flag), "op": "SCMP_CMP_MASKED_EQ"]],
        ]
    }

    private static func socket(family: Int) -> JSON {
        [
            "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": .int(errnoEPERM),
            "args": [["index": 0, "value": .int(family), "op": "SCMP_CMP_EQ"]],
        ]
    }
}
