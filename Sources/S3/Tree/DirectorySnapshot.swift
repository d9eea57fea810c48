import CLinux
import Disk
import Glibc

/// The names of one directory in S3's order, read once: bytewise, with `/` after the names of directories.
///
/// Names that are not UTF-8 cannot be keys, and sockets, pipes and devices are no objects: they are left out.
package final class DirectorySnapshot: Sendable {
    enum Kind: UInt8 {
        case file, directory, symlink
    }

    private struct Entry {
        var offset: UInt32
        var length: UInt16
        var kind: UInt8
    }

    private let arena: [UInt8]
    private let entries: [Entry]

    var count: Int { entries.count }
    /// About what it takes in memory.
    var bytes: Int { arena.count + entries.count * MemoryLayout<Entry>.stride + 64 }

    subscript(index: Int) -> (name: ArraySlice<UInt8>, kind: Kind) {
        let entry = entries[index]
        let start = Int(entry.offset)
        return (arena[start..<(start + Int(entry.length))], Kind(rawValue: entry.kind) ?? .file)
    }

    /// Reads a directory, up to `limit` names.
    init(reading directory: Descriptor, limit: Int = .max) throws(DiskError) {
        var arena: [UInt8] = []
        var entries: [Entry] = []
        try check(Int32(clamping: lseek(directory.raw, 0, SEEK_SET)), "lseek", "directory")
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while entries.count < limit {
            let count = cl_getdents(directory.raw, &buffer, buffer.count)
            if count == -Int(ENOENT) { break }
            try checkRaw(Int32(clamping: count), "getdents", "directory")
            guard count > 0 else { break }
            buffer.withUnsafeBytes { raw in
                Self.each(UnsafeRawBufferPointer(rebasing: raw[..<count])) { name, type in
                    guard let kind = Self.kind(type, name, in: directory), arena.count < Int(UInt32.max) - 512 else { return }
                    let start = arena.count
                    arena += name
                    if kind == .directory { arena.append(UInt8(ascii: "/")) }
                    entries.append(Entry(offset: UInt32(start), length: UInt16(arena.count - start), kind: kind.rawValue))
                }
            }
        }
        self.arena = arena
        self.entries = Self.sorted(entries, arena)
    }

    /// The records of getdents64(2): inode and position (8 bytes each), length (2), type (1), name up to a NUL.
    private static func each(_ records: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer, UInt8) -> Void) {
        var offset = 0
        while offset + 19 <= records.count {
            let length = Int(records.loadUnaligned(fromByteOffset: offset + 16, as: UInt16.self))
            guard length > 19, offset + length <= records.count else { return }
            let name = records[(offset + 19)..<(offset + length)]
            let end = name.firstIndex(of: 0) ?? name.endIndex
            body(UnsafeRawBufferPointer(rebasing: name[..<end]), records[offset + 18])
            offset += length
        }
    }

    private static func kind(_ type: UInt8, _ name: UnsafeRawBufferPointer, in directory: Descriptor) -> Kind? {
        if name.elementsEqual(".".utf8) || name.elementsEqual("..".utf8) { return nil }
        guard !name.contains(where: { $0 >= 0x80 }) || String(validating: name, as: UTF8.self) != nil else { return nil }
        switch Int(type) {
        case Int(DT_REG): return .file
        case Int(DT_DIR): return .directory
        case Int(DT_LNK): return .symlink
        case Int(DT_UNKNOWN):
            var info = stat()
            guard fstatat(directory.raw, String(decoding: name, as: UTF8.self), &info, AT_SYMLINK_NOFOLLOW) == 0 else { return nil }
            return info.isDirectory ? .directory : info.isFile ? .file : info.isSymlink ? .symlink : nil
        default: return nil
        }
    }

    /// Sorted by their bytes. The eight bytes after what all names share decide most comparisons by one number.
    private static func sorted(_ entries: [Entry], _ arena: [UInt8]) -> [Entry] {
        guard let first = entries.first, entries.count > 1 else { return entries }
        return arena.withUnsafeBytes { arena in
            func name(_ entry: Entry) -> UnsafeRawBufferPointer {
                let start = Int(entry.offset)
                return UnsafeRawBufferPointer(rebasing: arena[start..<(start + Int(entry.length))])
            }
            var shared = Int(first.length)
            for entry in entries where shared > 0 {
                let common = zip(name(first), name(entry)).prefix { $0 == $1 }.count
                shared = min(shared, common)
            }
            var keyed = entries.map { entry in
                var key: UInt64 = 0
                let bytes = name(entry).dropFirst(shared).prefix(8)
                for byte in bytes { key = key << 8 | UInt64(byte) }
                return (key: key << UInt64(8 * (8 - bytes.count)), entry: entry)
            }
            keyed.sort { left, right in
                if left.key != right.key { return left.key < right.key }
                return precedes(name(left.entry), name(right.entry))
            }
            return keyed.map(\.entry)
        }
    }

    private static func precedes(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        guard let a = left.baseAddress, let b = right.baseAddress else { return left.count < right.count }
        let order = memcmp(a, b, min(left.count, right.count))
        return order == 0 ? left.count < right.count : order < 0
    }

    /// The first name that does not come before `name`.
    func lowerBound(_ name: ArraySlice<UInt8>) -> Int {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if self[middle].name.lexicographicallyPrecedes(name) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// Snapshots of directories that did not change, by how recently they were used.
package final class SnapshotCache: Sendable {
    private struct Key: Hashable {
        var device: UInt64
        var inode: UInt64
    }

    private struct Slot {
        var modifiedNs: Int64
        var snapshot: DirectorySnapshot
        var used: UInt64
    }

    private struct State {
        var slots: [Key: Slot] = [:]
        var bytes = 0
        var clock: UInt64 = 0
    }

    private let state = Locked(State())
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    /// The names of an open directory as they are now.
    func snapshot(of directory: Descriptor) throws(DiskError) -> DirectorySnapshot {
        let info = try directory.status()
        let key = Key(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
        // Taken before the reading: a change during it makes the next look differ.
        let modified = info.modifiedNs
        if let known = recall(key, modified) { return known }
        let snapshot = try DirectorySnapshot(reading: directory)
        // Clocks of filesystems tick in steps: what changed just now may change again within the same step.
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let age = (Int64(now.tv_sec) &* 1_000_000_000 &+ Int64(now.tv_nsec)) &- modified
        if age > 20_000_000, snapshot.bytes <= limit / 2 { keep(snapshot, key, modified) }
        return snapshot
    }

    private func recall(_ key: Key, _ modifiedNs: Int64) -> DirectorySnapshot? {
        state.withLock { state in
            guard var slot = state.slots[key], slot.modifiedNs == modifiedNs else { return nil }
            state.clock += 1
            slot.used = state.clock
            state.slots[key] = slot
            return slot.snapshot
        }
    }

    private func keep(_ snapshot: DirectorySnapshot, _ key: Key, _ modifiedNs: Int64) {
        state.withLock { state in
            state.clock += 1
            if let old = state.slots.updateValue(Slot(modifiedNs: modifiedNs, snapshot: snapshot, used: state.clock), forKey: key) {
                state.bytes -= old.snapshot.bytes
            }
            state.bytes += snapshot.bytes
            guard state.bytes > limit else { return }
            // The older half goes at once, so that this is rare.
            for (key, slot) in state.slots.sorted(by: { $0.value.used < $1.value.used }) where state.bytes > limit / 2 {
                state.slots[key] = nil
                state.bytes -= slot.snapshot.bytes
            }
        }
    }
}
