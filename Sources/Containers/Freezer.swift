import Disk
import Glibc
import Resource

/// Stops all processes of a container where they are, and lets them go on: cgroup freezer, version 1 or 2.
package enum Freezer {
    private static let patience = 400
    private static let pause: UInt32 = 1_000

    /// Returns once every process stands still. Throws where the kernel has no freezer for the container, or one does not stop.
    package static func freeze(_ id: String) throws {
        let old = state(id)
        if Files.exists(old) {
            for _ in 0..<patience {
                // Again each time: a process that was about to begin may have slipped through.
                try write("FROZEN", to: old)
                if isFrozen(id) { return }
                usleep(pause)
            }
        } else {
            try write("1", to: unified(id) + "/cgroup.freeze")
            for _ in 0..<patience {
                if isFrozen(id) { return }
                usleep(pause)
            }
        }
        try? thaw(id)
        throw DiskError("freeze", path: id, detail: "its processes did not stop within \(patience) ms")
    }

    /// Lets it go on; one that was not frozen is no error.
    package static func thaw(_ id: String) throws {
        let old = state(id)
        if Files.exists(old) { try write("THAWED", to: old) } else { try write("0", to: unified(id) + "/cgroup.freeze") }
    }

    package static func isFrozen(_ id: String) -> Bool {
        if let bytes = try? Files.read(state(id)) { return bytes.starts(with: "FROZEN".utf8) }
        let events = (try? Files.read(unified(id) + "/cgroup.events")).map { String(decoding: $0, as: UTF8.self) } ?? ""
        return events.contains("frozen 1")
    }

    /// Memory that only this container holds: without the cache of files, which the kernel takes back by itself.
    package static func memoryBytes(_ id: String) -> Int64 {
        for (file, field) in [("/sys/fs/cgroup/memory/roost/\(id)/memory.stat", "total_rss"), (unified(id) + "/memory.stat", "anon")] {
            guard let bytes = try? Files.read(file) else { continue }
            for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
                let words = line.split(separator: " ")
                if words.count == 2, words[0] == field, let count = Int64(words[1]) { return count }
            }
        }
        return 0
    }

    /// Gives back what can be had without the container's doing: pages of files that it read.
    package static func reclaim(_ id: String) {
        let old = "/sys/fs/cgroup/memory/roost/\(id)/memory.force_empty"
        if Files.exists(old) { try? write("0", to: old) } else { try? write("1G", to: unified(id) + "/memory.reclaim") }
    }

    private static func state(_ id: String) -> String { "/sys/fs/cgroup/freezer/roost/\(id)/freezer.state" }
    private static func unified(_ id: String) -> String { "/sys/fs/cgroup/roost/\(id)" }

    private static func write(_ text: String, to path: String) throws {
        try Files.withDescriptor(path, flags: O_WRONLY) { try Files.write(Array(text.utf8), to: $0, path: path) }
    }
}
