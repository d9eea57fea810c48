import Disk
import Glibc
import Resource

/// Reads what a worker's monitor wrote: CRI lines, `TIME STREAM F|P TEXT`.
package struct WorkerLog: Sendable {
    package struct Line: Sendable, Equatable {
        package var time: String
        package var stream: String
        package var text: String

        package var json: JSON { ["ts": .string(time), "source": .string(stream), "line": .string(text)] }
    }

    private let path: String

    package init(path: String) { self.path = path }

    package var exists: Bool { Files.exists(path) }

    /// The last `count` lines, the older file included, and where the newer file ends now.
    package func tail(_ count: Int) throws -> (lines: [Line], end: Int) {
        var bytes = Files.exists(path + ".1") ? try Files.read(path + ".1", limit: 2 * Limits.logFileBytes) : []
        let newer = try Files.read(path, limit: 2 * Limits.logFileBytes)
        bytes += newer
        return (Array(Self.lines(bytes[...]).suffix(count)), Self.completeEnd(newer))
    }

    /// What came after `end`. A file shorter than that was rotated: it is read from its start.
    package func more(after end: Int) throws -> (lines: [Line], end: Int) {
        try Files.withDescriptor(path, flags: O_RDONLY) { descriptor in
            let from = lseek(descriptor, 0, SEEK_END) < end ? 0 : end
            lseek(descriptor, from, SEEK_SET)
            let bytes = try Files.read(descriptor, path: path, limit: 2 * Limits.logFileBytes)
            let count = Self.completeEnd(bytes)
            return (Self.lines(bytes[..<count]), from + count)
        }
    }

    /// The last thing it said, for a reason.
    package func lastLine() -> String? {
        guard let last = try? tail(1).lines.last else { return nil }
        return String(last.text.prefix(300))
    }

    private static func completeEnd(_ bytes: [UInt8]) -> Int { (bytes.lastIndex(of: UInt8(ascii: "\n")) ?? -1) + 1 }

    private static func lines(_ bytes: ArraySlice<UInt8>) -> [Line] {
        bytes.split(separator: UInt8(ascii: "\n")).compactMap { line in
            let parts = line.split(separator: UInt8(ascii: " "), maxSplits: 3, omittingEmptySubsequences: false)
            guard parts.count == 4 else { return nil }
            func text(_ part: ArraySlice<UInt8>) -> String { String(decoding: part, as: UTF8.self) }
            return Line(time: text(parts[0]), stream: text(parts[1]), text: text(parts[3]))
        }
    }
}
