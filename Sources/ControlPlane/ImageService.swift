import Containers
import Disk
import Logging
import Resource

/// Brings images in and takes them out.
package actor ImageService {
    private let catalog: Catalog
    private let images: ImageStore
    private let layout: DataLayout
    private let log: Logger
    private var isImporting = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    package init(catalog: Catalog, images: ImageStore, layout: DataLayout, log: Logger) {
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
            let image = try await images.importArchive(path, name: name, at: catalog.now())
            try await catalog.save(image)
            try await removeUnusedLayers()
            log.info("image imported", metadata: ["image": "\(image.name)", "layers": "\(image.layers.count)"])
            return image
        } catch let error as DiskError {
            throw error.roostError
        }
    }

    /// Refused while a template names it. Layers that workers still use go with the last of them.
    package func remove(_ id: String) async throws {
        try await catalog.removeImage(id)
        try await removeUnusedLayers()
    }

    private func removeUnusedLayers() async throws {
        let remaining = Array(catalog.snapshot.images.values)
        let images = images
        try await Blocking.run { try images.removeLayers(notIn: remaining) }
    }

    private static func isName(_ name: String) -> Bool {
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
