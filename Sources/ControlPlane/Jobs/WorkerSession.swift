import Resource

/// What the queue knows of a worker: its polls, its jobs.
struct WorkerSession {
    struct Parked<Answer: Sendable> {
        var token: Int
        var continuation: CheckedContinuation<Answer, Never>
        var limit = 1
    }

    let endpointID: String
    /// Jobs it holds.
    var leases: Set<String> = []
    /// Jobs that ended on our side while it may still work on them: cancelled ones.
    var leftovers: Set<String> = []
    /// Cancelled jobs it has not been told of.
    var toStop: [String] = []
    /// Of its leases, those whose inputs are being fetched for it: it does not know of them yet.
    var preparing: Set<String> = []
    /// Jobs whose inputs are there, for its next poll.
    var prepared: [(id: String, handout: [UInt8])] = []
    /// Of its leases, those with files of ours on its disk, and the folder they lie in. Each attempt has one of its own: the
    /// last one's may still be on its way out.
    var staged: [String: String] = [:]
    var take: Parked<[[UInt8]]>?
    var stop: Parked<[String]>?
    /// Gets no more jobs.
    var isDraining = false
    /// SIGTERM was sent: polls are answered soon, so that the SDK can exit.
    var isReleased = false
    var hasPolled = false
    /// It is parked or about to be: its polls stay without an answer.
    var isParked = false
    /// Waits for the poll that follows the answered one.
    var parking: CheckedContinuation<Void, Never>?
    /// When it could take jobs first, since it was made or thawed.
    var readySince: Milliseconds?
    /// Steps of its start that are still to come.
    var steps: Set<StartRecord.Step> = [.firstJob, .firstResult]
    var idleSince: Milliseconds?
    var lastPing: Milliseconds?

    init(endpointID: String) { self.endpointID = endpointID }

    var isBusy: Bool { !leases.isEmpty || !leftovers.isEmpty }

    /// Whether its poll may be answered with a job.
    var isTakingJobs: Bool { !isDraining && !isParked && preparing.isEmpty }

    /// Whether the worker has not been told of a job that it holds.
    func withholds(_ job: String) -> Bool { preparing.contains(job) || prepared.contains { $0.id == job } }
}

/// What the queue tells the worker service.
package enum WorkerSignal: Sendable, Equatable {
    /// Its first poll.
    case ready(String, at: ContinuousClock.Instant)
    /// It holds no job any more.
    case released(String)
    /// It asked to be replaced after its job.
    case recycle(String, reason: String)
    /// It must go now.
    case condemn(String, reason: String)
    /// A step of its start is done.
    case step(String, StartRecord.Step, at: ContinuousClock.Instant)
    /// The inputs of a job that it holds must be fetched; the payload is opened.
    case prepare(String, job: Job, payload: JobPayload, folder: String)
    /// A job of it that had files of ours on its disk has ended.
    case unstage(String, folder: String)
}
