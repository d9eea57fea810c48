import Resource
import Testing

@Suite struct JobLifecycleTests {
    @Test func aJobRunsOnceAndCountsItsTimes() {
        var job = JobLifecycle(queuedAt: 100)
        verify(job.lease(to: "w", at: 150))
        verify(job.status == .inProgress && job.delay == 50)
        verify(job.finish(.completed, by: "w", at: 175))
        verify(job.status == .completed && job.execution == 25 && job.worker == "w")
    }

    @Test func onlyTheHolderMayAnswer() {
        var job = JobLifecycle(queuedAt: 0)
        verify(!job.finish(.completed, by: "w", at: 1))
        _ = job.lease(to: "w", at: 1)
        verify(!job.finish(.completed, by: "other", at: 2))
        verify(!job.lease(to: "other", at: 2))
        verify(job.accepts(from: "w") && !job.accepts(from: "other"))
    }

    @Test func aLostJobIsTriedAgainAndThenFails() {
        var job = JobLifecycle(queuedAt: 0)
        _ = job.lease(to: "a", at: 1)
        verify(job.lose(worker: "a", reason: "gone", limit: 1, at: 2) == .requeued)
        verify(job.status == .inQueue && job.retries == 1)
        verify(job.lose(worker: "a", reason: "gone", limit: 1, at: 3) == .ignored)
        _ = job.lease(to: "b", at: 12)
        verify(job.delay == 10)
        verify(job.lose(worker: "b", reason: "gone", limit: 1, at: 20) == .failed(reason: "job lost after 1 retry: gone"))
        verify(job.status == .failed)
    }

    @Test func aJobGivenBackCountsNoRetry() {
        var job = JobLifecycle(queuedAt: 0)
        _ = job.lease(to: "a", at: 1)
        verify(job.giveBack(worker: "a", at: 2))
        verify(job.retries == 0 && job.status == .inQueue)
    }

    @Test func whatHasEndedStaysEnded() {
        var job = JobLifecycle(queuedAt: 0)
        _ = job.lease(to: "a", at: 1)
        verify(job.stop(.cancelled, at: 2))
        verify(!job.stop(.timedOut, at: 3))
        verify(!job.finish(.completed, by: "a", at: 4))
        verify(job.lose(worker: "a", reason: "", limit: 9, at: 5) == .ignored)
        verify(job.status == .cancelled)
    }

    @Test func onlyFailuresStartAnew() {
        for (status, expected) in [(JobStatus.failed, true), (.timedOut, true), (.completed, false), (.cancelled, false)] {
            var job = JobLifecycle(phase: .ended(status, worker: "w", at: 5), retries: 1, delay: 1, execution: 1)
            verify(job.restart(at: 10) == expected)
            if expected { verify(job == JobLifecycle(queuedAt: 10)) }
        }
    }
}
