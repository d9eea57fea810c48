import Disk
import Glibc
import Testing

@Suite struct FilesTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = "/tmp/roost-files-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try Files.makeDirectories(folder)
        defer { _ = try? Files.remove(folder) }
        try body(folder)
    }

    @Test func replaceIsWholeAndLeavesNothingStaged() throws {
        try withFolder { folder in
            try Files.replace(folder + "/a", with: Array("one".utf8))
            try Files.replace(folder + "/a", with: Array("two".utf8))
            #expect(try Files.read(folder + "/a") == Array("two".utf8))
            #expect(try Files.names(in: folder) == ["a"])
        }
    }

    @Test func removeNeverFollowsALink() throws {
        try withFolder { folder in
            try Files.makeDirectories(folder + "/kept")
            try Files.replace(folder + "/kept/file", with: [1])
            try Files.makeDirectories(folder + "/gone/deep")
            symlink(folder + "/kept", folder + "/gone/deep/link")
            try Files.remove(folder + "/gone")
            #expect(!Files.exists(folder + "/gone") && Files.exists(folder + "/kept/file"))
            try Files.remove(folder + "/never-there")
        }
    }

    @Test func sparseCopiesKeepHolesAndData() throws {
        try withFolder { folder in
            try Files.withDescriptor(folder + "/a", flags: O_RDWR | O_CREAT) { descriptor in
                ftruncate(descriptor, 64 << 20)
                _ = pwrite(descriptor, [7, 8, 9] as [UInt8], 3, 32 << 20)
            }
            try Files.copySparse(folder + "/a", to: folder + "/b")
            let copy = try Files.status(folder + "/b")
            #expect(copy.st_size == 64 << 20 && copy.st_blocks * 512 < 1 << 20)
            try Files.withDescriptor(folder + "/b", flags: O_RDONLY) { descriptor in
                var bytes: [UInt8] = [0, 0, 0]
                pread(descriptor, &bytes, 3, 32 << 20)
                #expect(bytes == [7, 8, 9])
            }
        }
    }

    @Test func aLockHasOneHolder() throws {
        try withFolder { folder in
            let path = folder + "/lock"
            #expect(try !Files.isLocked(path))
            let held = try #require(try Files.lock(path))
            #expect(try Files.lock(path) == nil && Files.isLocked(path))
            close(held)
            // A child that another test starts right now has a copy of the descriptor from its fork until its exec.
            var isFree = false
            for _ in 0..<2_000 where !isFree {
                isFree = try !Files.isLocked(path)
                if !isFree { usleep(5_000) }
            }
            #expect(isFree)
        }
    }

    @Test func errorsNameCallAndPath() throws {
        let error = #expect(throws: DiskError.self) { try Files.read("/no/such/file") }
        #expect(error?.description == "open /no/such/file: No such file or directory")
        #expect(DiskError("write", path: "x", errno: EDQUOT).isNoSpace && DiskError("write", path: "x", errno: ENOSPC).isNoSpace)
    }

    @Test func commandsReportWhatTheySaid() async throws {
        #expect(try await Command.run("echo", ["hello"]) == "hello\n")
        let error = await #expect(throws: DiskError.self) { try await Command.run("sh", ["-c", "echo bad >&2; exit 3"]) }
        #expect(error?.detail == "exit code 3: bad")
    }
}
