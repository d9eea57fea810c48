import Disk
import Glibc
import Testing

@Suite struct BlockingTests {
    /// All of them wait for one another, which many more threads than cores can do.
    @Test func callsThatWaitDoNotKeepOthersWaiting() async throws {
        let arrived = Locked(0)
        let all = 60
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<all {
                group.addTask {
                    try await Blocking.run {
                        arrived.withLock { $0 += 1 }
                        while arrived.withLock({ $0 }) < all { usleep(100) }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(arrived.withLock { $0 } == all)
    }

    @Test func moreThanThereAreThreadsForWaitTheirTurn() async throws {
        let sum = try await withThrowingTaskGroup(of: Int.self) { group in
            for number in 0..<1_000 {
                group.addTask {
                    try await Blocking.run {
                        usleep(500)
                        return number
                    }
                }
            }
            return try await group.reduce(0, +)
        }
        #expect(sum == 499_500)
    }

    @Test func whatIsThrownComesOut() async {
        await #expect(throws: DiskError.self) { try await Blocking.run { try Files.read("/nowhere/at/all") } }
    }
}
