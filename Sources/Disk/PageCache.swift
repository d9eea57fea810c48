import Glibc

/// What of a file is in memory, and bringing more of it there.
package enum PageCache {
    /// A part of a file, in bytes.
    package struct Extent: Codable, Sendable, Equatable {
        package var offset: Int64
        package var length: Int64

        package init(offset: Int64, length: Int64) { (self.offset, self.length) = (offset, length) }

        package var end: Int64 { offset &+ length }
    }

    private static let page = Int64(sysconf(Int32(_SC_PAGESIZE)))
    /// One request to the kernel, which takes no more than its read-ahead window at once.
    private static let window: Int64 = 128 << 10

    /// Mapped at once: a file may be longer than an address space.
    private static let mapping: Int64 = 1 << 30

    /// The parts of `bytes` of a file that are in memory. Parts up to `gap` apart are one.
    package static func resident(_ file: Int32, within bytes: Extent, gap: Int64 = 0) -> [Extent] {
        guard bytes.offset >= 0, bytes.length > 0, bytes.end > 0 else { return [] }
        var extents: [Extent] = []
        var begin = bytes.offset / page * page
        while begin < bytes.end {
            let length = min(mapping, bytes.end - begin)
            guard let memory = mmap(nil, Int(length), PROT_READ, MAP_SHARED, file, off_t(begin)), memory != MAP_FAILED else { break }
            defer { munmap(memory, Int(length)) }
            var pages = [UInt8](repeating: 0, count: Int((length + page - 1) / page))
            guard mincore(memory, Int(length), &pages) == 0 else { break }
            for (index, state) in pages.enumerated() where state & 1 == 1 {
                let offset = max(begin + Int64(index) * page, bytes.offset)
                let end = min(begin + Int64(index + 1) * page, bytes.end)
                append(Extent(offset: offset, length: end - offset), to: &extents, gap: gap)
            }
            begin += length
        }
        return extents
    }

    /// Extents in the order of their offsets, with those up to `gap` apart made one.
    package static func joined(_ extents: [Extent], gap: Int64) -> [Extent] {
        var joined: [Extent] = []
        for extent in extents { append(extent, to: &joined, gap: gap) }
        return joined
    }

    private static func append(_ extent: Extent, to extents: inout [Extent], gap: Int64) {
        if let last = extents.last, extent.offset - last.end <= gap {
            extents[extents.count - 1].length = extent.end - last.offset
        } else {
            extents.append(extent)
        }
    }

    /// Brings a part of a file into memory; returns once its end is there. What cannot be read stays out.
    package static func load(_ file: Int32, _ extent: Extent) {
        var offset = extent.offset
        while offset < extent.end {
            let length = min(window, extent.end - offset)
            _ = posix_fadvise(file, off_t(offset), off_t(length), POSIX_FADV_WILLNEED)
            offset += length
        }
        var byte: UInt8 = 0
        _ = pread(file, &byte, 1, off_t(extent.end - 1))
    }
}
