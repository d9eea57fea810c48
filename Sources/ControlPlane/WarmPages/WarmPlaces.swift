import Disk
import Glibc
import Resource

/// Where the folders that a worker sees lie on the host, and the files in them: what it wrote itself is not among them.
struct WarmPlaces: Sendable {
    /// A folder that the worker sees at `target`, made of one or, for its image, of several, of which the first that has a file counts.
    struct Place: Sendable {
        struct Source: Sendable {
            /// As in `WarmPages.File`.
            var name: String
            var folder: String
        }

        var target: String
        var sources: [Source]
    }

    /// The longest targets first: one may lie in another.
    private let places: [Place]

    init(_ places: [Place]) { self.places = places.sorted { $0.target.utf8.count > $1.target.utf8.count } }

    /// Parts of a file that are less apart are read as one.
    private static let gap: Int64 = 64 << 10
    private static let extentsOfFile = 64
    /// Looked at of one file: a worker may make one of any size.
    private static let bytesOfFile: Int64 = 64 << 30

    /// The mounts of a worker beside its `/`.
    var mountTargets: [String] { places.map(\.target).filter { $0 != "/" } }

    /// What of the opened files is in memory now.
    func record(_ opened: [OpenRecorder.Opened]) -> [WarmPages.File] {
        var folders: [String: ContainedFolder] = [:]
        return opened.compactMap { file in
            guard let (place, path) = place(of: file.path) else { return nil }
            for source in place.sources {
                guard let folder = Self.folder(source.folder, &folders), let (descriptor, info) = folder.openFile(path) else { continue }
                defer { close(descriptor) }
                // The same path with another size or time is a file that this one was changed from.
                guard Int64(info.st_size) == file.size, info.modifiedNanoseconds == file.modifiedAt else { return nil }
                let extents = Self.extents(descriptor, size: file.size)
                guard !extents.isEmpty else { return nil }
                return .init(source: source.name, path: path, size: file.size, modifiedAt: file.modifiedAt, extents: extents)
            }
            return nil
        }
    }

    private static func extents(_ descriptor: Int32, size: Int64) -> [PageCache.Extent] {
        var gap = gap
        var extents = PageCache.resident(descriptor, within: .init(offset: 0, length: min(size, bytesOfFile)), gap: gap)
        while extents.count > extentsOfFile {
            gap *= 4
            extents = PageCache.joined(extents, gap: gap)
        }
        return extents
    }

    private func place(of path: String) -> (Place, path: String)? {
        for place in places {
            let prefix = place.target == "/" ? "/" : place.target + "/"
            if path.hasPrefix(prefix) { return (place, String(path.dropFirst(prefix.count))) }
        }
        return nil
    }

    private static func folder(_ path: String, _ folders: inout [String: ContainedFolder]) -> ContainedFolder? {
        if let known = folders[path] { return known }
        let folder = try? ContainedFolder(root: path)
        folders[path] = folder
        return folder
    }

    /// The folders of all sources, by their names.
    func open() -> [String: ContainedFolder] {
        let sources = places.flatMap(\.sources).map { ($0.name, $0.folder) }
        return Dictionary(sources, uniquingKeysWith: { $1 }).compactMapValues { try? ContainedFolder(root: $0) }
    }
}
