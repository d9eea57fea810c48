import Resource
import Testing

@Suite struct ScalingRuleTests {
    typealias Activity = ScalingSample.WorkerSample.Activity

    private func sample(
        _ workers: [Activity] = [], min: Int = 0, max: Int = 3, type: String = "QUEUE_DELAY", value: Int = 4, waiting: [Milliseconds] = [],
        running: Int = 0, now: Milliseconds = 100_000, outdated: Set<Int> = [], backoff: Milliseconds? = nil, flashboot: Bool = false,
        spares: Int = 0
    ) throws -> ScalingSample {
        let body: JSON = [
            "templateId": "t", "workersMin": .int(min), "workersMax": .int(max), "scalerType": .string(type),
            "scalerValue": .int(value), "idleTimeout": 5, "flashboot": .bool(flashboot), "spareWorkers": .int(spares),
        ]
        let endpoint = Endpoint(
            id: "e", createdAt: 0, standardCompute: .cpu, values: try FieldValues(body, fields: Endpoint.fields, isUpdate: false))
        let samples = workers.enumerated().map {
            ScalingSample.WorkerSample(id: "w\($0.offset)", activity: $0.element, isOutdated: outdated.contains($0.offset))
        }
        return ScalingSample(
            now: now, endpoint: endpoint, queued: waiting.count, waitingSince: waiting, running: running, workers: samples,
            backoffUntil: backoff)
    }

    private func decide(_ sample: ScalingSample) -> ScalingDecision { ScalingDecision.decide(sample) }

    @Test func nothingToDoMeansNothing() throws { #expect(decide(try sample()) == ScalingDecision()) }

    @Test func theFirstJobStartsAWorkerAtOnce() throws { #expect(decide(try sample(waiting: [100_000])).start == 1) }

    @Test func aWaitingJobAddsAWorkerWhenItsDelayIsOver() throws {
        let early = decide(try sample([.busy], waiting: [97_000]))
        #expect(early.start == 0 && early.reconsiderAt == 101_000)
        #expect(decide(try sample([.busy], waiting: [96_000])).start == 1)
        #expect(decide(try sample([.busy, .starting], waiting: [96_000])).start == 0)
        #expect(decide(try sample([.busy, .starting], waiting: [90_000, 96_000])).start == 1)
    }

    @Test func requestCountWantsOneWorkerForEachShare() throws {
        #expect(decide(try sample(type: "REQUEST_COUNT", value: 2, waiting: [1, 1, 1])).start == 2)
        #expect(decide(try sample([.busy], type: "REQUEST_COUNT", value: 2, waiting: [1], running: 1)).start == 0)
    }

    @Test func theMaximumHolds() throws {
        let decision = decide(try sample([.busy, .leaving], max: 2, type: "REQUEST_COUNT", value: 1, waiting: [1, 1], running: 1))
        #expect(decision.start == 0 && decision.hold == .atMaximum)
        #expect(decide(try sample(max: 0, waiting: [1])).hold == .atMaximum)
    }

    @Test func theMinimumIsStartedAndKept() throws {
        #expect(decide(try sample(min: 2)).start == 2)
        #expect(decide(try sample([.idle(since: 0), .idle(since: 0)], min: 2)).stop.isEmpty)
    }

    @Test func idleWorkersStopAfterTheirTimeoutLongestIdleFirst() throws {
        let decision = decide(try sample([.idle(since: 95_000), .idle(since: 90_000), .idle(since: 98_000)], min: 1))
        #expect(decision.stop == ["w1", "w0"])
        let soon = decide(try sample([.idle(since: 98_000)]))
        #expect(soon.stop.isEmpty && soon.reconsiderAt == 103_000)
    }

    @Test func outdatedWorkersAreReplaced() throws {
        let decision = decide(try sample([.idle(since: 99_000), .busy], min: 1, outdated: [0, 1]))
        #expect(Set(decision.stop) == ["w0", "w1"] && decision.start == 1)
    }

    @Test func aLowerMaximumStopsTheSurplus() throws {
        #expect(decide(try sample([.busy, .starting, .idle(since: 99_999)], max: 1)).stop == ["w1", "w2"])
    }

    @Test func crashesHoldBackStarts() throws {
        let decision = decide(try sample(waiting: [1], backoff: 103_000))
        #expect(decision.start == 0 && decision.hold == .backingOff && decision.reconsiderAt == 103_000)
        #expect(decide(try sample(waiting: [1], backoff: 99_000)).start == 1)
    }

    @Test func backoffDoublesUpToAMinute() {
        var backoff = CrashBackoff()
        var delays: [Milliseconds] = []
        for _ in 0..<9 {
            backoff.failed(reason: "exit 1", at: 1_000)
            delays.append((backoff.until ?? 0) - 1_000)
        }
        #expect(delays == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000])
        #expect(backoff.explanation(at: 1_000)?.contains("exit 1") == true)
        #expect(CrashBackoff().explanation(at: 1_000) == nil)
    }

    // MARK: - FlashBoot

    @Test func idleWorkersAreParkedInsteadOfStopped() throws {
        let decision = decide(try sample([.idle(since: 90_000)], flashboot: true))
        #expect(decision.park == ["w0"] && decision.stop.isEmpty)
        #expect(decide(try sample([.idle(since: 90_000)], min: 1, flashboot: true)).park.isEmpty)
    }

    @Test func parkedWorkersAreThawedBeforeAnyIsStartedTheLastFirst() throws {
        let waiting: [Milliseconds] = [1, 1, 1]
        let decision = decide(try sample([.parked, .parked], type: "REQUEST_COUNT", value: 1, waiting: waiting, flashboot: true))
        #expect(decision.thaw == ["w1", "w0"] && decision.start == 1)
        let bounded = decide(
            try sample([.parked, .parked, .busy], max: 2, type: "REQUEST_COUNT", value: 1, waiting: waiting, running: 1, flashboot: true))
        #expect(bounded.thaw == ["w1"] && bounded.start == 0)
    }

    @Test func aCrashLoopDoesNotHoldUpAThaw() throws {
        let decision = decide(
            try sample([.parked], type: "REQUEST_COUNT", value: 1, waiting: [1, 1], backoff: 200_000, flashboot: true, spares: 2))
        #expect(decision.thaw == ["w0"] && decision.start == 0 && decision.hold == .backingOff && decision.startSpares == 0)
    }

    @Test func parkedWorkersGoWithTheirVersionAndWithFlashboot() throws {
        #expect(decide(try sample([.parked, .parked], outdated: [0], flashboot: true)).stop == ["w0"])
        #expect(decide(try sample([.parked])).stop == ["w0"])
        #expect(decide(try sample([.parked], max: 0, flashboot: true)).stop == ["w0"])
    }

    @Test func sparesAreRefilledAndUsed() throws {
        #expect(decide(try sample(flashboot: true, spares: 2)).startSpares == 2)
        #expect(decide(try sample([.parked, .sparing], flashboot: true, spares: 2)).startSpares == 0)
        #expect(decide(try sample(flashboot: false, spares: 2)).startSpares == 0)
        // The thawed one is replaced at once; the one on its way is expected to take the other job.
        let burst = decide(try sample([.parked, .sparing], type: "REQUEST_COUNT", value: 1, waiting: [1, 1], flashboot: true, spares: 2))
        #expect(burst.thaw == ["w0"] && burst.start == 0 && burst.startSpares == 1)
    }

    @Test func whatIsAsideDoesNotCountAgainstTheMaximum() throws {
        let decision = decide(
            try sample(
                [.parked, .sparing, .busy], max: 2, type: "REQUEST_COUNT", value: 1, waiting: [1, 1, 1], running: 1, flashboot: false))
        #expect(decision.start == 1)
    }
}
