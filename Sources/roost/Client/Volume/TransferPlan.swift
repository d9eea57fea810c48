import ArgumentParser
import Disk
import Glibc
import S3

/// Finds out which files a command means.
struct TransferPlan: Sendable {
    let client: S3Client

    /// A file below a starting point.
    struct Found: Sendable {
        var side: Transfer.Side
        /// Below the starting point.
        var relative: String
        var size: Int64
        /// Seconds since 1970.
        var modified: Int64
        var item: S3Client.Item?
    }

    // MARK: - Sources

    /// The files a source means: itself, what matches it, or with `recursive` all below it.
    func files(_ source: VolumePath, recursive: Bool) async throws -> [Found] {
        switch source {
        case .local(let path): try local(path, recursive: recursive)
        case .remote(let volume, let path): try await remote(volume, path, recursive: recursive)
        }
    }

    private func local(_ path: String, recursive: Bool) throws -> [Found] {
        var info = stat()
        guard stat(path, &info) == 0 else { throw ValidationError("there is no file \(path)") }
        if info.st_mode & S_IFMT == S_IFREG {
            let name = path.split(separator: "/").last.map(String.init) ?? path
            return [Found(side: .local(path), relative: name, size: Int64(info.st_size), modified: Int64(info.st_mtim.tv_sec))]
        }
        guard info.st_mode & S_IFMT == S_IFDIR else { throw ValidationError("\(path) is neither a file nor a folder") }
        guard recursive else { throw ValidationError("\(path) is a folder: say --recursive") }
        return try below(path, "")
    }

    /// Regular files, and links to them; folders are walked, links to folders are not.
    private func below(_ root: String, _ relative: String) throws -> [Found] {
        let folder = relative.isEmpty ? root : root + "/" + relative
        var found: [Found] = []
        for name in try Files.names(in: folder) {
            let (path, inside) = (folder + "/" + name, relative.isEmpty ? name : relative + "/" + name)
            if try Files.status(path).st_mode & S_IFMT == S_IFDIR {
                found += try below(root, inside)
                continue
            }
            var info = stat()
            guard stat(path, &info) == 0, info.st_mode & S_IFMT == S_IFREG else { continue }
            found.append(Found(side: .local(path), relative: inside, size: Int64(info.st_size), modified: Int64(info.st_mtim.tv_sec)))
        }
        return found
    }

    private func remote(_ volume: String, _ path: String, recursive: Bool) async throws -> [Found] {
        if Glob.isPattern(path) {
            let base = Glob.base(path)
            let items = try await client.list(volume, prefix: base).items.filter { item in
                !item.key.hasSuffix("/") && (Glob.matches(path, item.key) || (recursive && Self.isBelow(item.key, path)))
            }
            guard !items.isEmpty else { throw ValidationError("nothing matches \(volume):\(path)") }
            return items.map { found(volume, $0, relative: String($0.key.dropFirst(base.count))) }
        }
        if recursive {
            let prefix = path.isEmpty || path.hasSuffix("/") ? path : path + "/"
            let items = try await client.list(volume, prefix: prefix).items.filter { !$0.key.hasSuffix("/") }
            if !items.isEmpty || path.isEmpty { return items.map { found(volume, $0, relative: String($0.key.dropFirst(prefix.count))) } }
        }
        guard !path.isEmpty, let item = try await client.head(volume, path) else {
            throw ValidationError("there is no \(volume):\(path)\(recursive ? "" : " (a folder needs --recursive)")")
        }
        return [found(volume, item, relative: path.split(separator: "/").last.map(String.init) ?? path)]
    }

    /// Whether some folder above a key matches a pattern.
    private static func isBelow(_ key: String, _ pattern: String) -> Bool {
        let parts = key.split(separator: "/")
        return (1..<max(1, parts.count)).contains { Glob.matches(pattern, parts.prefix($0).joined(separator: "/")) }
    }

    private func found(_ volume: String, _ item: S3Client.Item, relative: String) -> Found {
        Found(side: .remote(volume: volume, key: item.key), relative: relative, size: item.size, modified: item.modified, item: item)
    }

    // MARK: - Plans

    /// Copies of sources to a target: one file to a name, or any number into a folder.
    func copies(of sources: [VolumePath], to target: VolumePath, recursive: Bool, removing: Bool) async throws -> [Transfer] {
        var transfers: [Transfer] = []
        for source in sources {
            let files = try await files(source, recursive: recursive)
            let isOne = sources.count == 1 && files.count == 1 && !Self.isMany(source, files)
            for file in files {
                let place = isOne && !Self.isFolder(target) ? Self.side(target) : Self.side(target, below: file.relative)
                transfers.append(Transfer(source: file.side, target: place, size: file.size, item: file.item, removesSource: removing))
            }
        }
        return transfers
    }

    /// Whether a source stands for a set, even if that has one member now.
    private static func isMany(_ source: VolumePath, _ files: [Found]) -> Bool {
        switch source {
        case .local(let path): Files.isDirectory(path)
        case .remote(_, let path): Glob.isPattern(path) || files.first?.item?.key != path
        }
    }

    private static func isFolder(_ target: VolumePath) -> Bool {
        switch target {
        case .local(let path): path.hasSuffix("/") || Files.isDirectory(path)
        case .remote(_, let path): path.isEmpty || path.hasSuffix("/")
        }
    }

    static func side(_ path: VolumePath, below relative: String = "") -> Transfer.Side {
        func join(_ base: String) -> String {
            if relative.isEmpty { return base }
            return base.isEmpty || base.hasSuffix("/") ? base + relative : base + "/" + relative
        }
        return switch path {
        case .local(let path): .local(join(path))
        case .remote(let volume, let path): .remote(volume: volume, key: join(path))
        }
    }

    /// What must move so that the target has all that the source has, and what the target has beyond it.
    func difference(_ source: VolumePath, _ target: VolumePath) async throws -> (transfers: [Transfer], extra: [Transfer.Side]) {
        let wanted = try await files(source, recursive: true)
        let there = try await existing(target)
        var extra = there
        var transfers: [Transfer] = []
        for file in wanted {
            let known = extra.removeValue(forKey: file.relative)
            // Same size, and not older than the source: as rsync and the AWS CLI judge.
            if let known, known.size == file.size, known.modified >= file.modified { continue }
            let place = Self.side(target, below: file.relative)
            transfers.append(Transfer(source: file.side, target: place, size: file.size, item: file.item))
        }
        return (transfers, extra.keys.sorted().compactMap { extra[$0]?.side })
    }

    private func existing(_ target: VolumePath) async throws -> [String: Found] {
        var found: [Found] = []
        switch target {
        case .local(let path): if Files.isDirectory(path) { found = try below(path, "") }
        case .remote(let volume, let path):
            let prefix = path.isEmpty || path.hasSuffix("/") ? path : path + "/"
            found = try await client.list(volume, prefix: prefix).items.filter { !$0.key.hasSuffix("/") }.map {
                self.found(volume, $0, relative: String($0.key.dropFirst(prefix.count)))
            }
        }
        return Dictionary(found.map { ($0.relative, $0) }, uniquingKeysWith: { $1 })
    }
}
