import Crypto
import Disk
import Glibc
import Resource
import Synchronization

/// Images on the local disk: every layer once, as an EROFS file named by the digest of what is in it.
package struct ImageStore: Sendable {
    /// One mount at a time: workers that start at once share their layers.
    private final class MountLock: Sendable { let mutex = Mutex(false) }

    private let folder: String
    private let mounts: String
    private let reserve: Int64
    private let mounting = MountLock()

    /// `reserve` are the bytes of its disk that images leave free.
    package init(folder: String, mounts: String, reserve: Int64) {
        self.folder = folder
        self.mounts = mounts
        self.reserve = reserve
    }

    private var layers: String { folder + "/layers" }
    /// Where imports are unpacked. Emptied at start-up.
    package var staging: String { folder + "/staging" }

    private var abandoned: String { folder + "/abandoned" }

    /// Removes what interrupted imports left. It needs no room on the disk: this may be what is to make some.
    package func clean() async throws {
        try Files.makeDirectories(staging)
        try Files.makeDirectories(layers)
        await removeAbandoned()
        for name in try Files.names(in: staging) {
            // Tools of a server that was killed may still write into it: out of their way first.
            let aside = "\(abandoned)/\(name)"
            if (try? Files.makeDirectories(abandoned)) == nil || rename("\(staging)/\(name)", aside) < 0 {
                try await Command.run("rm", ["-rf", "--one-file-system", "\(staging)/\(name)"])
            }
        }
        await removeAbandoned()
    }

    /// Not `Files.remove`: an image may hold paths longer than a path may be. What is still written to goes the next time.
    private func removeAbandoned() async {
        guard Files.exists(abandoned) else { return }
        _ = try? await Command.run("rm", ["-rf", "--one-file-system", abandoned])
    }

    /// Takes in an archive: docker-archive, OCI layout archive, or a root filesystem as a tar file.
    package func importArchive(_ archive: String, name: String, at now: Milliseconds) async throws -> Image {
        let work = "\(staging)/\(Identifier.make(length: Limits.shortIDLength))"
        try Files.makeDirectories(work)
        do {
            let image = try await importArchive(archive, work: work, name: Image.normalize(name), at: now)
            try await Command.run("rm", ["-rf", work])
            return image
        } catch {
            // Start-up empties the staging folder should this fail too.
            _ = try? await Command.run("rm", ["-rf", work])
            throw error
        }
    }

    private func importArchive(_ archive: String, work: String, name: String, at now: Milliseconds) async throws -> Image {
        let names = try await topLevelNames(of: archive)
        let kind = names.contains("oci-layout") ? "oci-archive" : names.contains("manifest.json") ? "docker-archive" : nil
        guard let kind else {
            guard names.contains("bin") || names.contains("usr") else {
                throw RoostError(
                    .invalid, "not an image: neither oci-layout nor manifest.json nor a root filesystem (no bin, no usr) in it")
            }
            return try await importRootFilesystem(archive, work: work, name: name, at: now)
        }
        do {
            try await Command.run(
                "skopeo", ["--insecure-policy", "copy", "--quiet", "\(kind):\(archive)", "oci:\(work)/oci:image"])
        } catch let error as DiskError where !error.isNoSpace {
            throw RoostError(.invalid, "not an image: \(error.detail)")
        }
        return try await importLayout(work + "/oci", work: work, name: name, at: now)
    }

    /// Takes in an image of a registry as it described it. `folder`, below `staging`, is where it comes together.
    package func pull(
        _ registry: Registry, _ description: Registry.Description, name: String, folder: String, at now: Milliseconds
    ) async throws -> Image {
        let (digest, bytes) = (description.digest, description.bytes)
        guard try bytes < room() else { throw RoostError(.noSpace, "the disk is too full for the \(bytes >> 20) MiB of \(name)") }
        try await registry.fetch(digest, into: folder + "/oci")
        var image = try await importLayout(folder + "/oci", work: folder, name: name, at: now)
        image.manifestDigest = digest
        return image
    }

    /// Bytes of all layers, each once.
    package func bytes() throws -> Int64 {
        try Files.names(in: layers).reduce(0) { try $0 + Int64(Files.status(layers + "/" + $1).st_size) }
    }

    /// Bytes of the files below a folder: how far a pull is.
    package static func bytes(below folder: String) -> Int64 {
        var total: Int64 = 0
        for name in (try? Files.names(in: folder)) ?? [] {
            guard let info = try? Files.status(folder + "/" + name) else { continue }
            total += info.st_mode & S_IFMT == S_IFDIR ? bytes(below: folder + "/" + name) : Int64(info.st_size)
        }
        return total
    }

    /// Which of the names that tell kinds of archives apart are in it.
    private func topLevelNames(of archive: String) async throws -> Set<String> {
        let wanted = ["oci-layout", "manifest.json", "bin", "usr"]
        let listing = try await Command.output(
            "tar", ["--list", "--no-recursion", "--file", archive] + wanted + wanted.map { "./" + $0 })
        let complaints = listing.stderr.split(separator: "\n").filter {
            !$0.contains("Not found in archive") && !$0.contains("previous errors")
        }
        guard complaints.isEmpty else {
            throw RoostError(.invalid, "not an image: tar cannot read it: \(complaints.joined(separator: "; ").prefix(300))")
        }
        return Set(
            listing.stdout.split(separator: "\n").map { line in
                var name = line.hasPrefix("./") ? line.dropFirst(2) : line
                if name.hasSuffix("/") { name.removeLast() }
                return String(name)
            })
    }

    private func importRootFilesystem(_ archive: String, work: String, name: String, at now: Milliseconds) async throws -> Image {
        let digest = try await digest(of: archive)
        let bytes = try await addLayer(archive, digest: digest, work: work, isWhole: true)
        return Image(
            id: digest, name: name, layers: [digest], entrypoint: [], command: [], env: [], workingDirectory: "/", user: "",
            bytes: bytes, createdAt: now)
    }

    /// An OCI image layout with one image, which skopeo has checked blob by blob.
    private func importLayout(_ layout: String, work: String, name: String, at now: Milliseconds) async throws -> Image {
        let index = try document(layout + "/index.json")
        let manifestDigest = try digestField(index["manifests"]?.array?.first, in: "index.json")
        let manifest = try document(blob(manifestDigest, in: layout))
        let configDigest = try digestField(manifest["config"], in: "the manifest")
        let config = try document(blob(configDigest, in: layout))
        let identifiers = config["rootfs"]?["diff_ids"]?.array?.compactMap { Self.hexDigest($0.string) } ?? []
        let blobs = try (manifest["layers"]?.array ?? []).map { try digestField($0, in: "the manifest") }
        guard !blobs.isEmpty, identifiers.count == blobs.count else {
            throw RoostError(.invalid, "not an image: \(blobs.count) layers but \(identifiers.count) diff_ids")
        }
        var bytes: Int64 = 0
        for (digest, blobDigest) in zip(identifiers, blobs) {
            bytes += try await addLayer(blob(blobDigest, in: layout), digest: digest, work: work)
        }
        let run = config["config"]
        let strings = { (key: String) in run?[key]?.array?.compactMap(\.string) ?? [] }
        return Image(
            id: configDigest, name: name, layers: identifiers, entrypoint: strings("Entrypoint"), command: strings("Cmd"),
            env: strings("Env"), workingDirectory: run?["WorkingDir"]?.string ?? "/", user: run?["User"]?.string ?? "",
            bytes: bytes, createdAt: now)
    }

    /// Packs a layer as EROFS, with its whiteouts turned into overlay's. Returns the file's size.
    ///
    /// `isWhole`: the digest is the archive's own, compressed or not, and was taken from it.
    private func addLayer(_ archive: String, digest: String, work: String, isWhole: Bool = false) async throws -> Int64 {
        let file = "\(layers)/\(digest).erofs"
        if Files.exists(file) { return try Int64(Files.status(file).st_size) }
        let staged = "\(work)/layer.erofs"
        try await LayerArchive(path: archive, work: work).pack(into: staged, digest: isWhole ? nil : digest, room: room)
        return try await Blocking.run {
            _ = try Files.withDescriptor(staged, flags: O_RDWR) { try check(fsync($0), "fsync", staged) }
            try check(rename(staged, file), "rename", file)
            try Files.syncDirectory(layers)
            return try Int64(Files.status(file).st_size)
        }
    }

    /// Bytes that images may still take.
    private func room() throws -> Int64 {
        let free = try Files.space(at: folder).free
        guard free > reserve else {
            throw RoostError(.noSpace, "the disk is too full for an image: \(free >> 20) MiB are free, \(reserve >> 20) are kept back")
        }
        return free - reserve
    }

    /// An image's mounted layers: names of mount points in one folder, lowest first.
    package struct Layers: Sendable {
        package var folder: String
        package var names: [String]

        package init(folder: String, names: [String]) { (self.folder, self.names) = (folder, names) }

        /// The mount point of a layer, by its digest.
        package func path(_ digest: String) -> String { "\(folder)/\(ImageStore.mountName(digest))" }
    }

    /// Mounts an image's layers, shared by all its workers.
    package func mount(_ image: Image) throws -> Layers {
        try mounting.mutex.withLock { _ in for layer in image.layers { try mount(layer: layer, of: image) } }
        // A layer may stand twice in an image; the upper one hides the other.
        var names: [String] = []
        for name in image.layers.map(Self.mountName).reversed() where !names.contains(name) { names.insert(name, at: 0) }
        return Layers(folder: mounts, names: names)
    }

    private static func mountName(_ digest: String) -> String { String(digest.prefix(24)) }

    private func mount(layer digest: String, of image: Image) throws {
        let target = "\(mounts)/\(Self.mountName(digest))"
        if Mount.isMounted(target) { return }
        let file = "\(layers)/\(digest).erofs"
        guard Files.exists(file) else { throw RoostError(.notFound, "image \(image.name) lacks its layer \(digest)") }
        try Files.makeDirectories(target, mode: 0o755)
        do {
            // From Linux 6.12 on EROFS mounts a file by itself.
            try Mount.filesystem(file, at: target, type: "erofs", readOnly: true)
        } catch {
            guard error.errno == ENOTBLK else { throw error }
            let device = try LoopDevice.attach(file, readOnly: true)
            defer { device.release() }
            try Mount.filesystem(device.path, at: target, type: "erofs", readOnly: true)
        }
    }

    /// Removes the layers that no image of `remaining` uses.
    package func removeLayers(notIn remaining: [Image]) throws {
        let used = Set(remaining.flatMap(\.layers))
        for name in try Files.names(in: layers) where name.hasSuffix(".erofs") {
            let digest = String(name.dropLast(6))
            guard !used.contains(digest) else { continue }
            try Mount.remove("\(mounts)/\(Self.mountName(digest))", lazily: true)
            try Files.remove(layers + "/" + name)
        }
    }

    private func document(_ path: String) throws -> JSON {
        do { return try JSONReader.parse(try Files.read(path)) } catch let failure as JSONReader.Failure {
            throw RoostError(.invalid, "not an image: \(failure)")
        }
    }

    private func blob(_ digest: String, in layout: String) -> String { "\(layout)/blobs/sha256/\(digest)" }

    private func digestField(_ value: JSON?, in place: String) throws -> String {
        guard let digest = Self.hexDigest(value?["digest"]?.string) else {
            throw RoostError(.invalid, "not an image: no sha256 digest in \(place)")
        }
        return digest
    }

    /// The hexadecimal part of `sha256:…`; nil for anything that could be something else in a path.
    private static func hexDigest(_ text: String?) -> String? {
        guard let text, text.hasPrefix("sha256:") else { return nil }
        let hex = text.dropFirst(7)
        let isHex = hex.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
        return hex.utf8.count == 64 && isHex ? String(hex) : nil
    }

    private func digest(of path: String) async throws -> String {
        try await Blocking.run {
            try Files.withDescriptor(path, flags: O_RDONLY) { descriptor in
                var hash = SHA256()
                var buffer = [UInt8](repeating: 0, count: 1 << 20)
                while true {
                    let count = Glibc.read(descriptor, &buffer, buffer.count)
                    if count < 0 && errno == EINTR { continue }
                    try check(Int32(clamping: count), "read", path)
                    if count == 0 { break }
                    buffer.withUnsafeBytes { hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: $0[..<count])) }
                }
                return Hex.text(hash.finalize())
            }
        }
    }
}

/// Lower-case hexadecimal.
package enum Hex {
    package static func text(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var out: [UInt8] = []
        for byte in bytes {
            out.append(digits[Int(byte >> 4)])
            out.append(digits[Int(byte & 15)])
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// Hexadecimal SHA-256 of a text: how keys and tokens are kept.
    package static func sha256(_ text: String) -> String { self.text(SHA256.hash(data: Array(text.utf8))) }
}
