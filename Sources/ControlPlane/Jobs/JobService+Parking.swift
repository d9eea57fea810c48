import Resource

/// What the queue does so that a worker can be frozen, and used again.
///
/// The SDK gives a poll up after 90 seconds of its own clock, which jumps when it is thawed. So its poll is answered first and
/// the next one is kept: it is good for a job as long as a poll is held anyway. A worker that is thawed later finds its poll
/// answered or timed out, and asks again at once.
extension JobService {
    /// How long the poll that follows is waited for.
    private static let patience: Milliseconds = 2_000

    /// Takes a worker out of the queue's hands. False when it has a job, or there is one for it; then nothing has changed.
    package func beginParking(_ worker: String) async -> Bool {
        guard let session = sessions[worker], !session.isBusy, !session.isDraining, !session.isParked else { return false }
        sessions[worker]?.isParked = true
        if session.take != nil {
            answerTake(worker, [])
            answerStop(worker, [])
            let token = token()
            schedule(.parking(worker: worker, token: token), at: now() + Self.patience)
            await withCheckedContinuation { sessions[worker]?.parking = $0 }
        }
        guard let after = sessions[worker] else { return false }
        guard !after.isBusy, !after.isDraining, queues[after.endpointID]?.count ?? 0 == 0 else {
            unpark(worker)
            return false
        }
        return true
    }

    /// The poll is there, or will not come.
    func endParking(_ worker: String) {
        guard let waiting = sessions[worker]?.parking else { return }
        sessions[worker]?.parking = nil
        waiting.resume()
    }

    /// It goes on, or was not frozen after all: jobs may be given to it.
    package func unpark(_ worker: String, isStart: Bool = false) {
        guard let session = sessions[worker] else { return }
        sessions[worker]?.isParked = false
        sessions[worker]?.idleSince = session.isBusy ? nil : now()
        if isStart {
            sessions[worker]?.readySince = now()
            sessions[worker]?.steps = [.firstJob, .firstResult]
        }
        guard session.take != nil, sessions[worker]?.isTakingJobs == true else { return }
        queues[session.endpointID, default: EndpointQueue()].addTaker(worker)
        feed(session.endpointID)
    }

    /// Whether a poll of a worker waits here.
    package func hasPoll(_ worker: String) -> Bool { sessions[worker]?.take != nil || sessions[worker]?.isBusy == true }

    func note(_ step: StartRecord.Step, of worker: String) {
        guard sessions[worker]?.steps.remove(step) != nil else { return }
        signals.yield(.step(worker, step, at: .now))
    }
}
