import Containers
import Disk
import Logging
import Resource

/// Brings images in and takes them out.
package actor ImageService {
    let catalog: Catalog
    let images: ImageStore
    private let layout: DataLayout
    let log: Logger
    private let budget: Int64?
    private var isImporting = false
    /// Images on their way in: meanwhile layers that no image names are not unused.
    private var arriving = 0
    var pulls: [String: Pull] = [:]
    private var waiting: [CheckedContinuation<Void, Never>] = []

    package init(catalog: Catalog, images: ImageStore, layout: DataLayout, budget: Int64?, log: Logger) {
        self.budget = budget
        self.catalog = catalog
        self.images = images
        self.layout = layout
        self.log = log
    }

    /// Where an upload is staged before `importArchive`.
    package nonisolated func uploadPath() -> String { layout.uploads + "/" + Identifier.make(length: Limits.shortIDLength) }

    /// Imports a staged archive and removes it. One import at a time: they are bound by the disk.
    package func importArchive(_ path: String, name: String) async throws -> Image {
        defer { _ = try? Files.remove(path) }
        guard Self.isName(name) else {
            throw RoostError(.invalid, "field 'name': '\(name.prefix(80))' is not an image name like team/worker:1")
        }
        while isImporting { await withCheckedContinuation { waiting.append($0) } }
        isImporting = true
        defer {
            isImporting = false
            if !waiting.isEmpty { waiting.removeFirst().resume() }
        }
        do {
            let image = try await arrive { try await images.importArchive(path, name: name, at: catalog.now()) }
            log.info("image imported", metadata: ["image": "\(image.name)", "layers": "\(image.layers.count)"])
            return image
        } catch let error as DiskError {
            throw error.roostError
        }
    }

    /// Keeps what `bring` brings in: from then on the image can be started.
    func arrive(_ bring: () async throws -> Image) async throws -> Image {
        arriving += 1
        let image: Image
        do {
            image = try await bring()
            try await catalog.save(image)
            arriving -= 1
        } catch {
            arriving -= 1
            throw error
        }
        // The image is here, whether or not others could be made to go.
        do {
            try await evict(keeping: image.name)
            try await removeUnusedLayers()
        } catch {
            log.error("failed to remove images", metadata: ["error": "\(error)"])
        }
        return image
    }

    // MARK: - Budget

    /// Whether a template names an image.
    private nonisolated func isNamed(_ image: Image) -> Bool {
        catalog.snapshot.templates.values.contains { Image.normalize($0.imageName) == image.name }
    }

    /// Removes the images that no template and no worker uses, longest unused first, until the rest is within the budget.
    private func evict(keeping name: String) async throws {
        guard let budget else { return }
        while try images.bytes() > budget {
            let unused = catalog.snapshot.images.values.filter { $0.name != name && !isNamed($0) && !catalog.isRunning($0) }
            guard let oldest = unused.min(by: { ($0.usedAt ?? $0.createdAt) < ($1.usedAt ?? $1.createdAt) }) else { return }
            log.info("image evicted", metadata: ["image": "\(oldest.name)"])
            try await remove(oldest.name)
        }
    }

    /// Removes all images that no template and no worker uses; returns their names and the bytes that became free.
    package func prune() async throws -> (names: [String], bytes: Int64) {
        let before = try images.bytes()
        let unused = catalog.snapshot.images.values.filter { !isNamed($0) && !catalog.isRunning($0) }.map(\.name).sorted()
        for name in unused { try await catalog.removeImage(name) }
        try await removeUnusedLayers()
        return (unused, before - (try images.bytes()))
    }

    /// Refused while a template names it. Layers that workers still use go with the last of them.
    package func remove(_ id: String) async throws {
        try await catalog.removeImage(id)
        try await removeUnusedLayers()
    }

    private func removeUnusedLayers() async throws {
        guard arriving == 0 else { return }
        let remaining = Array(catalog.snapshot.images.values)
        let images = images
        try await Blocking.run { try images.removeLayers(notIn: remaining) }
    }

    static func isName(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.count <= 255 && !name.hasPrefix("/") && !name.hasSuffix("/") && !name.contains("//")
            && name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
                    UInt8(ascii: "/"), UInt8(ascii: ":"), UInt8(ascii: "@"):
                    true
                default: false
                }
            }
    }
}
