import CLinux
import Disk
import Glibc

/// What a listing asks for.
package struct ListQuery: Sendable, Equatable {
    /// Where the page before ended.
    package enum Marker: Sendable, Equatable {
        case key([UInt8])
        /// A common prefix, with everything under it.
        case prefix([UInt8])

        var bytes: [UInt8] {
            switch self {
            case .key(let bytes), .prefix(let bytes): bytes
            }
        }
    }

    package var prefix: [UInt8] = []
    package var delimiter: [UInt8] = []
    package var after: Marker?
    package var limit = 1_000

    package init(prefix: [UInt8] = [], delimiter: [UInt8] = [], after: Marker? = nil, limit: Int = 1_000) {
        (self.prefix, self.delimiter, self.after, self.limit) = (prefix, delimiter, after, limit)
    }
}

/// One page of a listing.
package struct ListPage: Sendable {
    package struct Object: Sendable {
        package var key: [UInt8]
        package var state: ObjectState
    }

    package var objects: [Object] = []
    package var prefixes: [[UInt8]] = []
    package var isTruncated = false
    /// The last entry of the page.
    package var last: ListQuery.Marker?

    package var count: Int { objects.count + prefixes.count }
}

/// Walks a tree in the order of whole keys: a directory's name counts with its `/`, so `d-1` < `d.x` < `d/x`.
///
/// No state but the marker goes from page to page. Each page descends to its place by binary search in the snapshots.
struct Lister {
    private let tree: VolumeTree
    private let query: ListQuery
    private let after: [UInt8]
    private var page = ListPage()
    private var attribute = [UInt8](repeating: 0, count: ObjectRecord.maximumBytes)
    private static let slash = UInt8(ascii: "/")

    static func page(_ query: ListQuery, of tree: VolumeTree) throws -> ListPage {
        var lister = Lister(tree: tree, query: query)
        guard query.limit > 0 else { return lister.page }
        let base = query.prefix.lastIndex(of: slash).map { Array(query.prefix[...$0]) } ?? []
        guard let path = String(validating: base.dropLast(), as: UTF8.self), isPath(base),
            let directory = try tree.openIfPresent(path, O_RDONLY | O_DIRECTORY)
        else { return lister.page }
        // A link to a directory is not listed in its own right; what lies behind it has its own keys.
        if !base.isEmpty, query.prefix == base { try lister.addDirectory(base, directory) }
        try lister.walk(base, directory)
        return lister.page
    }

    private init(tree: VolumeTree, query: ListQuery) {
        self.tree = tree
        self.query = query
        after = query.after?.bytes ?? []
    }

    /// A prefix that no key can have names nothing, and is no error.
    private static func isPath(_ base: [UInt8]) -> Bool { base.isEmpty || (try? ObjectKey(base)) != nil }

    /// A directory under way. Kept in an array, not on the stack: workers can make trees deeper than any stack.
    private struct Level {
        var path: [UInt8]
        var directory: Descriptor
        var snapshot: DirectorySnapshot
        var index: Int
    }

    private enum Step {
        case next, beyondPrefix, full
        case descend(Level)
    }

    private mutating func walk(_ base: [UInt8], _ directory: Descriptor) throws {
        var levels = [try level(base, directory)]
        while var current = levels.popLast() {
            guard current.index < current.snapshot.count else { continue }
            let index = current.index
            current.index += 1
            switch try step(current, index) {
            case .next: levels.append(current)
            case .descend(let below): levels += [current, below]
            case .beyondPrefix: continue
            case .full: return
            }
        }
    }

    private func level(_ path: [UInt8], _ directory: Descriptor) throws -> Level {
        let snapshot = try tree.shared.snapshots.snapshot(of: directory)
        return Level(path: path, directory: directory, snapshot: snapshot, index: start(in: snapshot, path))
    }

    private mutating func step(_ level: Level, _ index: Int) throws -> Step {
        let (name, kind) = level.snapshot[index]
        let key = level.path + name
        guard key.starts(with: query.prefix) else { return query.prefix.lexicographicallyPrecedes(key) ? .beyondPrefix : .next }
        guard key.count <= ObjectKey.maximumBytes, !isPassed(key, kind) else { return .next }
        if let common = commonPrefix(of: key) { return add(prefix: common) ? .next : .full }
        guard kind == .directory else { return try addFile(key, name, kind, level.directory) ? .next : .full }
        let text = String(decoding: name.dropLast(), as: UTF8.self)
        let raw = openat(level.directory.raw, text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        // It went while we walked: then it has nothing in it.
        guard raw >= 0 else { return .next }
        let directory = Descriptor(raw)
        guard try addDirectory(key, directory) else { return .full }
        return .descend(try self.level(key, directory))
    }

    /// Where in a directory the page can begin.
    private func start(in snapshot: DirectorySnapshot, _ path: [UInt8]) -> Int {
        var begin = 0
        if query.prefix.count > path.count, query.prefix.starts(with: path) {
            begin = snapshot.lowerBound(query.prefix[path.count...])
        }
        if after.count > path.count, after.starts(with: path) {
            let rest = after[path.count...]
            let first = rest.firstIndex(of: Self.slash).map { rest[...$0] } ?? rest
            begin = max(begin, snapshot.lowerBound(first))
        }
        return begin
    }

    /// Whether a key, or all of a directory's, came on an earlier page.
    private func isPassed(_ key: [UInt8], _ kind: DirectorySnapshot.Kind) -> Bool {
        guard let marker = query.after else { return false }
        if case .prefix(let prefix) = marker, key.starts(with: prefix) { return true }
        guard !after.lexicographicallyPrecedes(key) else { return false }
        return kind != .directory || !after.starts(with: key)
    }

    private func commonPrefix(of key: [UInt8]) -> [UInt8]? {
        guard !query.delimiter.isEmpty else { return nil }
        let rest = key[query.prefix.count...]
        guard let range = rest.firstRange(of: query.delimiter) else { return nil }
        return Array(key[..<range.upperBound])
    }

    private mutating func add(prefix: [UInt8]) -> Bool {
        if page.prefixes.last == prefix { return true }
        // A marker inside it: it was on the page that ended there.
        if after.starts(with: prefix), !after.isEmpty { return true }
        guard hasRoom() else { return false }
        page.prefixes.append(prefix)
        page.last = .prefix(prefix)
        return true
    }

    private mutating func hasRoom() -> Bool {
        if page.count < query.limit { return true }
        page.isTruncated = true
        return false
    }

    /// Adds `name/` where the directory is an object.
    @discardableResult
    private mutating func addDirectory(_ key: [UInt8], _ directory: Descriptor) throws -> Bool {
        guard query.after == nil || after.lexicographicallyPrecedes(key) else { return true }
        let isKept = DirectoryMark.read(directory.raw) == .kept
        guard try isKept || tree.shared.snapshots.snapshot(of: directory).count == 0 else { return true }
        var state = ObjectState(try directory.status(), record: nil)
        state.size = 0
        return add(ListPage.Object(key: key, state: state))
    }

    private mutating func addFile(
        _ key: [UInt8], _ name: ArraySlice<UInt8>, _ kind: DirectorySnapshot.Kind, _ directory: Descriptor
    ) throws -> Bool {
        guard let state = kind == .symlink ? linked(key) : state(of: name, in: directory) else { return true }
        return add(ListPage.Object(key: key, state: state))
    }

    private mutating func add(_ object: ListPage.Object) -> Bool {
        guard hasRoom() else { return false }
        page.objects.append(object)
        page.last = .key(object.key)
        return true
    }

    private mutating func state(of name: ArraySlice<UInt8>, in directory: Descriptor) -> ObjectState? {
        let text = String(decoding: name, as: UTF8.self)
        var info = stat()
        guard fstatat(directory.raw, text, &info, AT_SYMLINK_NOFOLLOW) == 0, info.isFile else { return nil }
        let count = cl_get_attribute_at(directory.raw, text, ObjectRecord.attribute, &attribute, attribute.count)
        guard count > 0, let newline = attribute[..<count].firstIndex(of: 0x0A) else { return ObjectState(info, record: nil) }
        return ObjectState(info, record: ObjectRecord.Head(attribute[..<newline]))
    }

    /// A link counts as the file it leads to, if that lies on the volume.
    private func linked(_ key: [UInt8]) -> ObjectState? {
        guard let target = try? tree.openIfPresent(String(decoding: key, as: UTF8.self), O_RDONLY), let info = try? target.status(),
            info.isFile
        else { return nil }
        return VolumeTree.opened(target, info).state
    }
}

extension VolumeTree {
    package func list(_ query: ListQuery) throws -> ListPage { try Lister.page(query, of: self) }
}
