import ControlPlane
import Disk
import Glibc
import Resource
import Testing

/// Written against `Store` alone, so that the next implementation passes the same.
@Suite struct StoreTests {
    private func withStore(_ body: (any Store, String) async throws -> Void) async throws {
        let folder = "/tmp/roost-store-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try Files.makeDirectories(folder)
        defer { _ = try? Files.remove(folder) }
        try await body(try SQLiteStore(path: folder + "/db"), folder + "/db")
    }

    private func job(_ id: String, endpoint: String = "e", webhook: String? = nil) -> Job {
        Job(
            id: id, endpointID: endpoint, isSync: false, isLowPriority: false, createdAt: 1, expiresAt: 1_000, executionTimeout: 10,
            retention: 100, webhook: webhook, lifecycle: JobLifecycle(queuedAt: 1))
    }

    private let payload = JobPayload(input: Array("{\"a\":1}".utf8), extra: [])

    @Test func aJobComesBackAsItWasInAnotherProcess() async throws {
        try await withStore { store, path in
            var first = job("a")
            try await store.insert(first, payload: payload)
            _ = first.lifecycle.lease(to: "w", at: 5)
            try await store.update([first])
            let again = try SQLiteStore(path: path)
            #expect(try await again.liveJobs() == [first])
            #expect(try await again.payload(of: "a") == payload)
        }
    }

    @Test func anEndWritesResultWebhookAndCountersTogether() async throws {
        try await withStore { store, _ in
            var one = job("a", webhook: "http://x/")
            try await store.insert(one, payload: payload)
            _ = one.lifecycle.lease(to: "w", at: 5)
            _ = one.lifecycle.finish(.completed, by: "w", at: 9)
            let result = JobResult(output: Array("[1]".utf8))
            try await store.finish(one, result: result)
            #expect(try await store.record(of: "a") == JobRecord(job: one, result: result))
            #expect(try await store.liveJobs().isEmpty)
            #expect(try await store.counters(of: "e") == JobCounters(completed: 1))
            let due = try await store.dueWebhooks(at: 9, limit: 5)
            #expect(due.map(\.jobID) == ["a"])
            // Kept while its webhook is not delivered, gone afterwards.
            #expect(try await store.sweep(at: 10_000) == 0)
            try await store.removeWebhook(due[0].id)
            #expect(try await store.sweep(at: 10_000) == 1)
        }
    }

    @Test func aJobQueuedAnewKeepsItsNewTimes() async throws {
        try await withStore { store, _ in
            var one = job("a")
            try await store.insert(one, payload: payload)
            _ = one.lifecycle.stop(.failed, at: 5)
            try await store.finish(one, result: .failure("no"))
            _ = one.lifecycle.restart(at: 50)
            one.createdAt = 50
            one.expiresAt = 5_000
            try await store.update([one])
            #expect(try await store.liveJobs() == [one])
            #expect(try await store.sweep(at: 10_000) == 0)
        }
    }

    @Test func oneBadWriteDoesNotHarmItsNeighbours() async throws {
        try await withStore { store, _ in
            try await store.insert(job("a"), payload: payload)
            let outcomes = await withTaskGroup(of: Bool.self) { group in
                for id in ["a", "b", "c", "a", "d"] {
                    let (job, payload) = (job(id), payload)
                    group.addTask { (try? await store.insert(job, payload: payload)) != nil }
                }
                return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
            }
            #expect(outcomes == 3)
            #expect(try await store.liveJobs().count == 4)
        }
    }

    @Test func chunksStayInOrderAndGoWhenDelivered() async throws {
        try await withStore { store, _ in
            for number in 1...3 { try await store.append(chunk: [UInt8(number)], sequence: number, to: "a") }
            #expect(try await store.chunks(of: "a").map(\.sequence) == [1, 2, 3])
            try await store.removeChunks(of: "a", through: 2)
            #expect(try await store.chunks(of: "a").map(\.bytes) == [[3]])
        }
    }

    @Test func cancellingTheQueueLeavesRunningJobs() async throws {
        try await withStore { store, _ in
            var running = job("r")
            for id in ["a", "b"] { try await store.insert(job(id, webhook: "http://x/"), payload: payload) }
            try await store.insert(running, payload: payload)
            _ = running.lifecycle.lease(to: "w", at: 2)
            try await store.update([running])
            try await store.cancelQueued(of: "e", at: 7)
            #expect(try await store.liveJobs().map(\.id) == ["r"])
            #expect(try await store.record(of: "a")?.job.lifecycle.status == .cancelled)
            #expect(try await store.dueWebhooks(at: 7, limit: 9).count == 2)
        }
    }

    @Test func documentsAreReplacedAndRemoved() async throws {
        try await withStore { store, _ in
            var center = DataCenter(id: "A", vcpus: 1, memoryBytes: 2)
            try await store.save(center, kind: .template, id: "A")
            center.vcpus = 9
            try await store.save(center, kind: .template, id: "A")
            #expect(try await store.documents(.template, as: DataCenter.self) == [center])
            #expect(try await store.documents(.key, as: DataCenter.self).isEmpty)
            try await store.remove(.template, id: "A")
            #expect(try await store.documents(.template, as: DataCenter.self).isEmpty)
        }
    }

    @Test func theNewestStartsOfEachEndpointStay() async throws {
        try await withStore { store, path in
            func start(_ at: Milliseconds, _ ready: Double? = nil) -> StartRecord {
                var start = StartRecord(kind: .fresh, workerID: "w\(at)", at: at, queuedMilliseconds: 0)
                if let ready { start.mark(.firstPoll, ready) }
                return start
            }
            let many = (1...Milliseconds(Limits.keptStarts + 3)).map { start($0) }
            try await store.save(starts: ["a": many, "b": [start(1)]])
            // A later step replaces what was known of the same start.
            try await store.save(starts: ["a": [start(900, 5), start(10, 7)], "b": [start(1, 9)]])
            let again = try await SQLiteStore(path: path).starts()
            #expect(again["a"]?.count == Limits.keptStarts && again["a"]?.last == start(900, 5))
            #expect(again["a"]?.first?.at == 5 && again["a"]?.contains(start(10, 7)) == true)
            #expect(again["b"] == [start(1, 9)])
            try await store.removeStarts(of: "a")
            #expect(try await store.starts() == ["b": [start(1, 9)]])
        }
    }
}
