import ControlPlane
import Disk
import Glibc
import Logging
import Resource
import Synchronization
import Testing

@Suite struct JobServiceTests {
    private struct Bench: Sendable {
        let jobs: JobService
        let store: any Store
        let signals: AsyncStream<WorkerSignal>
        let endpoint: Endpoint

        func submit(_ text: String = #"{"input":{}}"#) async throws -> String {
            try await jobs.submit(JobRequest(Array(text.utf8)), to: endpoint, isSync: false)
        }

        func status(_ id: String) async throws -> JSON { try JSONReader.parse(await jobs.status(id, of: endpoint.id)) }
    }

    private func secrets(_ folder: String) throws -> JobSecrets {
        JobSecrets(box: try SecretBox(path: folder + "/keys"), store: { $0 == "known" ? ["accessId": "a"] : nil })
    }

    private func withBench(_ body: (Bench) async throws -> Void) async throws {
        let folder = "/tmp/roost-jobs-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try Files.makeDirectories(folder)
        defer { _ = try? Files.remove(folder) }
        let store = try SQLiteStore(path: folder + "/db")
        let (signals, continuation) = AsyncStream<WorkerSignal>.makeStream()
        let clock = Mutex<Milliseconds>(1_000)
        let jobs = JobService(
            store: store, settings: JobSettings(), secrets: try secrets(folder), demand: Wakeups(), webhooks: Wakeups(),
            signals: continuation,
            now: {
                clock.withLock {
                    $0 += 1; return $0
                }
            }, log: Logger(label: "test"))
        let values = try FieldValues(["templateId": "t"], fields: Endpoint.fields, isUpdate: false)
        let endpoint = Endpoint(id: "e", createdAt: 0, standardCompute: .cpu, values: values)
        try await body(Bench(jobs: jobs, store: store, signals: signals, endpoint: endpoint))
    }

    @Test func aParkedWorkerGetsAJobInItsOwnTransaction() async throws {
        try await withBench { bench in
            await bench.jobs.attach("w", endpointID: "e")
            let taken = Task { try await bench.jobs.take(worker: "w", limit: 1, hasJobs: false) }
            while await bench.jobs.demand(of: "e", limit: 1).idleSince["w"] == nil { await Task.yield() }
            let id = try await bench.submit(#"{"input":{"n":1},"custom":true}"#)
            let job = try JSONReader.parse(try #require(try await taken.value.first))
            #expect(job == ["id": .string(id), "input": ["n": 1], "custom": true])
            #expect(try await bench.store.record(of: id)?.job.lifecycle.worker == "w")
        }
    }

    @Test func queuedJobsComeInOrderWithLowPriorityLast() async throws {
        try await withBench { bench in
            let low = try await bench.submit(#"{"input":{},"policy":{"lowPriority":true}}"#)
            let first = try await bench.submit()
            let second = try await bench.submit()
            await bench.jobs.attach("w", endpointID: "e")
            let jobs = try await bench.jobs.take(worker: "w", limit: 3, hasJobs: false)
            #expect(try jobs.map { try JSONReader.parse($0)["id"]?.string } == [first, second, low])
        }
    }

    @Test func aStaleAnswerIsDropped() async throws {
        try await withBench { bench in
            let id = try await bench.submit()
            await bench.jobs.attach("a", endpointID: "e")
            await bench.jobs.attach("b", endpointID: "e")
            _ = try await bench.jobs.take(worker: "a", limit: 1, hasJobs: false)
            try await bench.jobs.detach("a", reason: "gone", isPlanned: false)
            _ = try await bench.jobs.take(worker: "b", limit: 1, hasJobs: false)
            try await bench.jobs.done(worker: "a", job: id, report: WorkerReport(Array(#"{"output":"late"}"#.utf8)))
            #expect(try await bench.status(id)["status"] == "IN_PROGRESS")
            try await bench.jobs.done(worker: "b", job: id, report: WorkerReport(Array(#"{"output":"right"}"#.utf8)))
            let ended = try await bench.status(id)
            #expect(ended["output"] == "right" && ended["retries"] == 1)
        }
    }

    @Test func lateProgressDoesNotTouchAnEndedJob() async throws {
        try await withBench { bench in
            let id = try await bench.submit()
            await bench.jobs.attach("w", endpointID: "e")
            _ = try await bench.jobs.take(worker: "w", limit: 1, hasJobs: false)
            try await bench.jobs.done(worker: "w", job: id, report: WorkerReport(Array(#"{"output":1}"#.utf8)))
            let progress = WorkerReport(Array(#"{"status":"IN_PROGRESS","output":"50 %"}"#.utf8))
            try await bench.jobs.done(worker: "w", job: id, report: progress)
            #expect(try await bench.status(id)["output"] == 1)
        }
    }

    @Test func aDrainingWorkerGetsNoJobAndItsPollIsAnsweredWhenReleased() async throws {
        try await withBench { bench in
            await bench.jobs.attach("w", endpointID: "e")
            let taken = Task { try await bench.jobs.take(worker: "w", limit: 1, hasJobs: false) }
            while await bench.jobs.demand(of: "e", limit: 1).idleSince["w"] == nil { await Task.yield() }
            await bench.jobs.drain("w")
            let id = try await bench.submit()
            await bench.jobs.release("w")
            #expect(try await taken.value.isEmpty)
            #expect(try await bench.status(id)["status"] == "IN_QUEUE")
        }
    }

    @Test func deadlinesOfEndedJobsDoNotPileUp() async throws {
        try await withBench { bench in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<12_000 { group.addTask { _ = try await bench.submit() } }
                try await group.waitForAll()
            }
            #expect(await bench.jobs.pendingDeadlines == 12_000)
            #expect(try await bench.jobs.purge("e") == 12_000)
            _ = try await bench.submit()
            #expect(await bench.jobs.pendingDeadlines == 1)
        }
    }

    @Test func anS3ConfigIsSealedUntilItIsHandedOver() async throws {
        try await withBench { bench in
            let request = try JobRequest(Array("{\"input\":{},\"extra\":1,\"s3Config\":{\"accessSecret\":\"hush\"}}".utf8))
            let id = try await bench.jobs.submit(request, to: bench.endpoint, isSync: false)
            let stored = try #require(try await bench.store.payload(of: id))
            #expect(!String(decoding: stored.extra, as: UTF8.self).contains("hush"))
            await bench.jobs.attach("w", endpointID: bench.endpoint.id)
            let jobs = try await bench.jobs.take(worker: "w", limit: 1, hasJobs: false)
            let job = try JSONReader.parse(try #require(jobs.first))
            #expect(job["s3Config"]?["accessSecret"]?.string == "hush" && job["extra"]?.int == 1)
            let unknown = try JobRequest(Array("{\"input\":{},\"s3Config\":{\"store\":\"none\"}}".utf8))
            await #expect(throws: RoostError.self) { try await bench.jobs.submit(unknown, to: bench.endpoint, isSync: false) }
        }
    }

    @Test func jobsSurviveARestart() async throws {
        try await withBench { bench in
            let queued = try await bench.submit()
            let (_, continuation) = AsyncStream<WorkerSignal>.makeStream()
            let folder = "/tmp/roost-jobs-again-\(getpid())"
            try Files.makeDirectories(folder)
            defer { _ = try? Files.remove(folder) }
            let again = JobService(
                store: bench.store, settings: JobSettings(), secrets: try secrets(folder), demand: Wakeups(), webhooks: Wakeups(),
                signals: continuation, now: { 2_000 }, log: Logger(label: "test"))
            let found = try await again.restore(adopted: [])
            #expect(found.queued == 1 && found.running == 0)
            await again.attach("w", endpointID: "e")
            let jobs = try await again.take(worker: "w", limit: 1, hasJobs: false)
            #expect(try jobs.map { try JSONReader.parse($0)["id"]?.string } == [queued])
        }
    }
}
