import Disk
import Glibc
import Resource

/// Brings recorded pages into memory, in the order they will be wanted, a few pieces at a time: the worker that starts meanwhile reads
/// from the same disk.
struct PageLoader: Sendable {
    private struct Piece: Sendable {
        var file: WarmPages.File
        var extent: PageCache.Extent
        var isFirst: Bool
    }

    private struct Tally {
        var next = 0
        var cold: Int64 = 0
        var changed = 0
    }

    private static let pieceBytes: Int64 = 8 << 20
    private static let parallel = 4

    let folders: [String: ContainedFolder]
    /// Most bytes to be read.
    let budget: Int64

    /// Returns once all is there.
    func load(_ pages: WarmPages) async throws -> StartRecord.WarmPages {
        let begin = ContinuousClock.now
        let pieces = pages.files.flatMap(Self.pieces)
        let tally = Locked(Tally())
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<Self.parallel { group.addTask { try await Blocking.run { work(on: pieces, tally) } } }
            try await group.waitForAll()
        }
        let sums = tally.withLock { $0 }
        return .init(
            files: pages.files.count, bytes: pages.bytes, coldBytes: sums.cold, changedFiles: sums.changed,
            milliseconds: begin.duration(to: .now) / .milliseconds(1))
    }

    private func work(on pieces: [Piece], _ tally: Locked<Tally>) {
        while let piece = tally.withLock({ take(pieces, &$0) }) {
            let cold = load(piece)
            tally.withLock { tally in
                if let cold { tally.cold += cold } else if piece.isFirst { tally.changed += 1 }
            }
        }
    }

    private func take(_ pieces: [Piece], _ tally: inout Tally) -> Piece? {
        guard tally.next < pieces.count, tally.cold < budget else { return nil }
        defer { tally.next += 1 }
        return pieces[tally.next]
    }

    private static func pieces(of file: WarmPages.File) -> [Piece] {
        var pieces: [Piece] = []
        for extent in file.extents {
            var offset = extent.offset
            while offset < extent.end {
                let length = min(pieceBytes, extent.end - offset)
                pieces.append(Piece(file: file, extent: .init(offset: offset, length: length), isFirst: pieces.isEmpty))
                offset += length
            }
        }
        return pieces
    }

    /// The bytes that were not in memory; nil when the file is not the one that was recorded.
    private func load(_ piece: Piece) -> Int64? {
        guard let (descriptor, info) = folders[piece.file.source]?.openFile(piece.file.path) else { return nil }
        defer { close(descriptor) }
        guard Int64(info.st_size) == piece.file.size, info.modifiedNanoseconds == piece.file.modifiedAt else { return nil }
        let warm = PageCache.resident(descriptor, within: piece.extent).reduce(0) { $0 + $1.length }
        if warm < piece.extent.length { PageCache.load(descriptor, piece.extent) }
        return piece.extent.length - warm
    }
}
