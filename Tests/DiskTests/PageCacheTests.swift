import Disk
import Glibc
import Testing

@Suite struct PageCacheTests {
    private let mib: Int64 = 1 << 20

    /// A file of 16 MiB of which nothing is in memory. On the disk of the build, as /tmp may be memory itself.
    private func withColdFile(_ body: (Int32) throws -> Void) throws {
        var folder = [CChar](repeating: 0, count: 4_096)
        let path = String(cString: getcwd(&folder, folder.count)) + "/.build/pages-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try Files.withDescriptor(path, flags: O_RDWR | O_CREAT | O_EXCL) { file in
            defer { unlink(path) }
            for _ in 0..<16 { try Files.write([UInt8](repeating: 7, count: 1 << 20), to: file, path: path) }
            fsync(file)
            posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED)
            try body(file)
        }
    }

    @Test func aPartIsLoadedAndSeen() throws {
        try withColdFile { file in
            let whole = PageCache.Extent(offset: 0, length: 16 * mib)
            try #require(PageCache.resident(file, within: whole).isEmpty)
            PageCache.load(file, .init(offset: 3 * mib + 5, length: mib))
            let extents = PageCache.resident(file, within: whole)
            #expect(extents.contains { $0.offset <= 3 * mib && $0.end >= 4 * mib })
            #expect(extents.reduce(0) { $0 + $1.length } < 16 * mib)
            // Cut to what is asked for, to the byte.
            let asked = PageCache.Extent(offset: 3 * mib + 7, length: 100)
            #expect(PageCache.resident(file, within: asked) == [asked])
        }
    }

    @Test func partsCloseToOneAnotherAreOne() throws {
        try withColdFile { file in
            posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM)
            var byte: UInt8 = 0
            for offset in [0, 8_192, 1 << 20] { _ = pread(file, &byte, 1, off_t(offset)) }
            let whole = PageCache.Extent(offset: 0, length: 16 * mib)
            #expect(PageCache.resident(file, within: whole).map(\.offset) == [0, 8_192, mib])
            #expect(PageCache.resident(file, within: whole, gap: 8_192).map(\.offset) == [0, mib])
        }
    }

    @Test func whatIsNotThereIsNoTrap() throws {
        try withColdFile { file in
            for extent in [
                PageCache.Extent(offset: 0, length: 0), .init(offset: -1, length: 5), .init(offset: 32 * mib, length: mib),
                .init(offset: .max, length: .max), .init(offset: .max - 5, length: 5), .init(offset: 5, length: -5),
            ] {
                #expect(PageCache.resident(file, within: extent).isEmpty)
            }
            // As long as its name says, with nothing in memory but its begin.
            ftruncate(file, 1 << 40)
            var byte: UInt8 = 0
            _ = pread(file, &byte, 1, 0)
            #expect(PageCache.resident(file, within: .init(offset: 0, length: 8 << 30)).first?.offset == 0)
            #expect(PageCache.resident(-1, within: .init(offset: 0, length: mib)).isEmpty)
        }
    }
}
