import Disk
import Resource

/// What a worker of an endpoint read until it was ready: its files in the order it opened them, and of each the parts that were in
/// memory then. The next worker is likely to read the same.
package struct WarmPages: Codable, Sendable, Equatable {
    package struct File: Codable, Sendable, Equatable {
        /// Where it lies: `layer:DIGEST`, `volume:ID` or `model:FOLDER`.
        package var source: String
        /// Below its source's folder.
        package var path: String
        package var size: Int64
        /// Nanoseconds since 1970; with the size it tells whether the file is still the same.
        package var modifiedAt: Int64
        package var extents: [PageCache.Extent]

        package init(source: String, path: String, size: Int64, modifiedAt: Int64, extents: [PageCache.Extent]) {
            (self.source, self.path, self.size, self.modifiedAt, self.extents) = (source, path, size, modifiedAt, extents)
        }

        package var bytes: Int64 { extents.reduce(0) { $0 &+ $1.length } }
    }

    package var imageID: String
    /// The endpoint's.
    package var version: Int
    package var workerID: String
    package var recordedAt: Milliseconds
    package var files: [File]

    package var bytes: Int64 { files.reduce(0) { $0 &+ $1.bytes } }

    var withoutFiles: WarmPages {
        var pages = self
        pages.files = []
        return pages
    }

    /// Things change that nothing here can see, as which of two files a handler likes.
    private static let lifetime: Milliseconds = 24 * 3_600_000

    /// Whether it should be made anew by the worker that starts now.
    func isOutdated(for worker: Worker, at now: Milliseconds) -> Bool {
        imageID != worker.imageID || version != worker.version || now - recordedAt > Self.lifetime
    }

    package var json: JSON {
        [
            "imageDigest": .string("sha256:" + imageID), "version": .int(version), "workerId": .string(workerID),
            "recordedAt": .string(Timestamp.text(recordedAt)), "bytes": .int(Int(bytes)),
            "files": .array(
                files.map { file in
                    [
                        "source": .string(file.source), "path": .string(file.path), "size": .int(Int(file.size)),
                        "bytes": .int(Int(file.bytes)),
                        "extents": .array(file.extents.map { ["offset": .int(Int($0.offset)), "length": .int(Int($0.length))] }),
                    ]
                }),
        ]
    }
}
