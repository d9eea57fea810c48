import Resource
import Testing

@Suite struct WorkerLifecycleTests {
    private func ready() -> WorkerLifecycle {
        var worker = WorkerLifecycle()
        _ = worker.started(at: 0, hasJobs: false)
        _ = worker.polled()
        return worker
    }

    @Test func theFirstPollMakesItReady() {
        var worker = WorkerLifecycle()
        verify(!worker.polled())
        verify(worker.started(at: 1, hasJobs: false) == .none)
        verify(worker.polled())
        verify(worker.phase == .ready && !worker.polled())
    }

    @Test func anIdleWorkerIsTerminatedAtOnceAndKilledAfterItsGrace() {
        var worker = ready()
        verify(worker.drain(reason: "idle", hasJobs: false, at: 5) == .terminate)
        verify(worker.drain(reason: "again", hasJobs: false, at: 6) == .none)
        verify(worker.stopReason == "idle")
        verify(worker.graceOver() == .kill)
        verify(worker.exited() == .destroy && worker.exited() == .none)
    }

    @Test func aBusyWorkerFinishesItsJobsFirst() {
        var worker = ready()
        verify(worker.drain(reason: "outdated", hasJobs: true, at: 5) == .drain)
        verify(worker.phase == .draining && worker.graceOver() == .none)
        verify(worker.jobsDone(at: 9) == .terminate)
        verify(worker.phase == .stopping(since: 9))
    }

    @Test func aWorkerDrainedWhileItIsMadeStopsOnceItRuns() {
        var worker = WorkerLifecycle()
        verify(worker.drain(reason: "no need", hasJobs: false, at: 1) == .drain)
        verify(worker.started(at: 2, hasJobs: false) == .terminate)
    }

    @Test func theInitTimeoutEndsOnlyWorkersThatNeverPolled() {
        var silent = WorkerLifecycle()
        _ = silent.started(at: 0, hasJobs: false)
        verify(silent.initTimeout() == .kill)
        verify(silent.isFaulty)
        verify(silent.stopReason?.contains("init timeout") == true)
        var polled = ready()
        verify(polled.initTimeout() == .none)
    }

    @Test func aCondemnedWorkerIsKilledOnce() {
        var worker = ready()
        verify(worker.condemn(reason: "too long") == .kill)
        verify(worker.condemn(reason: "again") == .none)
        verify(!worker.isLive && worker.stopReason == "too long")
    }
}
