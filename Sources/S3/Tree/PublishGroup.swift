import CLinux
import Disk
import Glibc

/// Publishes what many threads have ready together, with one write of the filesystem's log.
///
/// Whoever comes while nobody publishes does it for all that wait: the bytes of all files are sent to the device, then
/// waited for, then every file is moved to its name, then the log is written once. Moving files one after the other costs
/// less than many threads that fight for the same folder locks, and a thread sleeps once for a request instead of five
/// times.
///
/// Why one write of the log is enough: XFS keeps one log, written strictly in order. Once a change of the file `barrier`
/// is on the disk, so is every change made before it, and an object's bytes were on the device before its name was.
final class PublishGroup: Sendable {
    /// What one thread wants published.
    final class Job: @unchecked Sendable {
        // Written by the publisher before `event` is set, read by its owner afterwards.
        fileprivate var outcome: Result<Bool, any Error> = .success(false)
        fileprivate let event: UnsafeMutablePointer<Int32>
        fileprivate let contents: Int32?
        fileprivate let commit: () throws -> Bool

        init(contents: Int32?, commit: @escaping () throws -> Bool) {
            self.contents = contents
            self.commit = commit
            event = .allocate(capacity: 1)
            event.initialize(to: 0)
        }

        deinit { event.deallocate() }
    }

    private struct State {
        var waiting: [Job] = []
        var isPublishing = false
    }

    private static let isDone: Int32 = 1
    private static let isNext: Int32 = 2

    private let state = Locked(State())

    /// Publishes `job`, alone or with others. Returns what its `commit` did, once that is durable.
    func run(_ job: Job, barrier: () throws -> Void) throws -> Bool {
        let leads = state.withLock { state in
            state.waiting.append(job)
            defer { state.isPublishing = true }
            return !state.isPublishing
        }
        if leads || cl_event_wait(job.event) == Self.isNext { publish(barrier) }
        return try job.outcome.get()
    }

    /// Publishes all that wait now, the caller's own among them; the next round is another's.
    private func publish(_ barrier: () throws -> Void) {
        let jobs = state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
        for job in jobs { if let contents = job.contents { cl_start_writeback(contents, 0, 0) } }
        for job in jobs {
            if let contents = job.contents {
                let written = cl_write_data(contents)
                if written < 0 { job.outcome = .failure(DiskError("sync_file_range", path: "staged file", errno: -written)) }
            }
            if case .success = job.outcome { job.outcome = Result { try job.commit() } }
        }
        // The next round writes its bytes while this one writes the log.
        let next = state.withLock { state in
            state.isPublishing = !state.waiting.isEmpty
            return state.waiting.first
        }
        if let next { cl_event_set(next.event, Self.isNext) }
        do { try barrier() } catch {
            for job in jobs { job.outcome = .failure(error) }
        }
        for job in jobs { cl_event_set(job.event, Self.isDone) }
    }
}

/// How a volume makes changes durable: in groups where its filesystem has an ordered log, else file by file.
struct Durability: Sendable {
    private let group: PublishGroup?
    private let barrier: String

    /// `XFS_SUPER_MAGIC`
    private static let xfs: Int64 = 0x5846_5342
    /// A larger file's bytes are written by its own thread: others do not wait for them.
    private static let smallBytes: Int64 = 1 << 20

    init(data: String, staging: String, groups: Locked<[String: PublishGroup]>, id: String) {
        barrier = staging + "/barrier"
        guard cl_fs_type(data) == Self.xfs else {
            group = nil
            return
        }
        group = groups.withLock { groups in
            let group = groups[id] ?? PublishGroup()
            groups[id] = group
            return group
        }
    }

    /// Runs `commit`, which changes `directory`, so that it and the bytes of `contents` are on the disk afterwards.
    func commit(contents: StagedFile? = nil, in directory: Descriptor, _ commit: @escaping () throws -> Bool) throws -> Bool {
        guard let group else {
            try contents?.descriptor.sync("staged file")
            let isDone = try commit()
            try directory.sync("folder")
            return isDone
        }
        var descriptor = contents?.descriptor.raw
        if let contents, contents.size > Self.smallBytes {
            try checkRaw(cl_write_data(contents.descriptor.raw), "sync_file_range", "staged file")
            descriptor = nil
        }
        return try group.run(PublishGroup.Job(contents: descriptor, commit: commit), barrier: makeBarrier)
    }

    /// A directory that was made on the way: nothing to do where the group's barrier covers it.
    func made(_ directories: [Descriptor], _ path: String) throws {
        if group == nil { for directory in directories { try directory.sync(path) } }
    }

    private func makeBarrier() throws {
        let file = Descriptor(try check(open(barrier, O_RDWR | O_CREAT | O_CLOEXEC, 0o600), "open", barrier))
        // Any change will do, as long as it is one: a change of times goes into the log.
        try check(futimens(file.raw, nil), "futimens", barrier)
        try file.sync(barrier)
    }
}
