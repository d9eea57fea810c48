/// Every fixed bound in one place. Sizes are bytes, times milliseconds, unless the name says otherwise.
package enum Limits {
    /// `/run` request body, default. RunPod documents 10 MB.
    package static let runBodyBytes = 10 << 20
    /// `/runsync` request body and job output, default. RunPod documents 20 MB.
    package static let runsyncBodyBytes = 20 << 20
    /// Management request body.
    package static let managementBodyBytes = 1 << 20
    /// All undelivered chunks of one job together.
    package static let streamBacklogBytes = 64 << 20
    /// Queued jobs of one endpoint.
    package static let queuedJobs = 1_000_000
    /// Jobs one batch take may ask for.
    package static let batchTake = 100

    /// How long a worker's poll is held: below the SDK's 90 s cap, and below common proxies' 60 s.
    package static let pollHold: Int64 = 50_000
    /// How long `/stream` is held without a `wait`: runpod-python gives up after 10 s.
    package static let streamHold: Int64 = 5_000
    /// `/runsync` and `/status-sync`: the default and the allowed `wait`.
    package static let syncWait: Int64 = 90_000
    package static let syncWaitRange: ClosedRange<Int64> = 1_000...300_000

    package static let executionTimeout: Int64 = 600_000
    package static let executionTimeoutRange: ClosedRange<Int64> = 5_000...604_800_000
    package static let timeToLive: Int64 = 86_400_000
    package static let timeToLiveRange: ClosedRange<Int64> = 10_000...604_800_000
    /// How long a finished job can be read: submitted with `/run`, and with `/runsync`.
    package static let retention: Int64 = 30 * 60_000
    package static let syncRetention: Int64 = 60_000

    /// How often a job is tried again after its worker was lost.
    package static let retries = 1
    /// Until a worker must have polled for the first time. RunPod's default is about seven minutes.
    package static let initTimeoutSeconds = 420
    /// After SIGTERM, until SIGKILL.
    package static let stopGrace: Int64 = 10_000
    /// After a cancel, until a worker that still holds the job is replaced.
    package static let cancelGrace: Int64 = 10_000

    package static let webhookTries = 3
    package static let webhookTimeoutSeconds: Int64 = 10
    package static let webhookRetryDelay: Int64 = 10_000

    package static let idLength = 14
    package static let shortIDLength = 10
    package static let logFileBytes = 10 << 20
    package static let logTailLines = 5_000
    package static let requestList = 100
    /// Starts of one endpoint whose records stay.
    package static let keptStarts = 500
}
