import Disk
import Foundation
import S3
import Testing

/// Objects over a real directory.
@Suite struct TreeTests {
    private let folder: String
    private let tree: VolumeTree

    init() throws {
        folder = NSTemporaryDirectory() + "roost-tree-\(UUID().uuidString)"
        try Files.makeDirectories(folder + "/data")
        try Files.makeDirectories(folder + "/staging")
        tree = try VolumeTree(id: "v", data: folder + "/data", staging: folder + "/staging", shared: TreeShared())
    }

    private func key(_ text: String) throws -> ObjectKey { try ObjectKey(Array(text.utf8)) }

    private func put(_ name: String, _ text: String = "x") throws -> ObjectState {
        let staged = try tree.stage()
        try Array(text.utf8).withUnsafeBytes { try staged.append($0) }
        return try tree.publish(staged, as: key(name), ObjectRecord(etag: "aa"), if: anything, time: 1_700_000_000_000)
    }

    private var anything: Preconditions {
        get throws { Preconditions(try RequestHead(method: "PUT", target: "/", headers: [])) }
    }

    private func keys(limit: Int, prefix: String = "", delimiter: String = "") throws -> [String] {
        var (found, after): ([String], ListQuery.Marker?) = ([], nil)
        repeat {
            let page = try tree.list(ListQuery(prefix: Array(prefix.utf8), delimiter: Array(delimiter.utf8), after: after, limit: limit))
            #expect(page.count <= limit)
            found += (page.objects.map(\.key) + page.prefixes).map { String(decoding: $0, as: UTF8.self) }
            after = page.isTruncated ? page.last : nil
        } while after != nil
        return found
    }

    @Test func theOrderIsThatOfWholeKeys() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        var generator = SystemRandomNumberGenerator()
        var names: Set<String> = ["d-1", "d.x", "d/x", "d0", "d/x-", "d/y/z", "é", "~"]
        while names.count < 300 {
            let parts = (0..<Int.random(in: 1...3, using: &generator)).map { _ in
                String((0..<2).map { _ in "ab-.0".randomElement(using: &generator) ?? "a" })
            }
            let name = parts.joined(separator: "/")
            let isInTheWay = names.contains { $0.hasPrefix(name + "/") || name.hasPrefix($0 + "/") }
            if !isInTheWay, !parts.contains(".."), (try? key(name)) != nil { names.insert(name) }
        }
        for name in names { _ = try put(name) }
        let sorted = names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        for limit in [1, 2, 17, 1_000] { #expect(try keys(limit: limit) == sorted) }
        let expected = Set(names.map { $0.contains("/") ? String($0.prefix { $0 != "/" }) + "/" : $0 })
        for limit in [1, 3, 1_000] { #expect(Set(try keys(limit: limit, delimiter: "/")) == expected) }
        for prefix in ["a", "a/", "d/", "-", "zz"] { #expect(try keys(limit: 2, prefix: prefix) == sorted.filter { $0.hasPrefix(prefix) }) }
    }

    @Test func whatIsPublishedIsThereAndWhatIsNotLeavesNothing() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let state = try put("a/b/c", "hello")
        #expect(state.etag == "aa" && state.size == 5)
        #expect(try tree.object(key("a/b/c"))?.state == state)
        do {
            let staged = try tree.stage()
            try Array("lost".utf8).withUnsafeBytes { try staged.append($0) }
        }
        let left = try (0..<64).flatMap { try Files.names(in: folder + "/staging/put/\($0)") }
        #expect(left.isEmpty)
        try tree.remove(key("a/b/c"), if: anything)
        #expect(tree.isEmpty)
    }

    @Test func aChangedFileHasAnotherETag() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        _ = try put("f", "one")
        try Files.replace(folder + "/data/f", with: Array("two".utf8))
        let first = try #require(try tree.object(key("f"))?.state.etag)
        #expect(first.hasSuffix("-0") && first.count == 34)
        try Files.withDescriptor(folder + "/data/f", flags: O_WRONLY | O_APPEND) { try Files.write([1], to: $0, path: "f") }
        #expect(try tree.object(key("f"))?.state.etag != first)
    }

    @Test func manyThreadsPublishAtOnce() async throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<64 {
                group.addTask { try await Blocking.run { _ = try put("many/\(number % 5)/\(number)", "\(number)") } }
            }
            try await group.waitForAll()
        }
        #expect(try keys(limit: 1_000).count == 64)
    }

    @Test func linksThatLeaveAreNotFollowed() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        _ = try put("inside", "x")
        #expect(symlink("inside", folder + "/data/good") == 0 && symlink("/etc/passwd", folder + "/data/bad") == 0)
        #expect(symlink("..", folder + "/data/up") == 0)
        #expect(try tree.object(key("good"))?.state.size == 1)
        #expect(throws: DiskError.self) { try tree.object(key("bad")) }
        #expect(throws: DiskError.self) { try tree.object(key("up/staging")) }
        #expect(try keys(limit: 10) == ["good", "inside"])
    }
}
