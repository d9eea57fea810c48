import Disk
import Foundation
import Logging
import Resource

/// Knows what the workers of each endpoint read until they are ready, and has it brought into memory while the next one is made.
///
/// The records are a cache: a file an endpoint, losing one costs a slower start.
package actor WarmPageService {
    private let folder: String
    private let memoryReserve: Int64
    private let now: @Sendable () -> Milliseconds
    private let log: Logger
    /// The records that were looked up since the server started, without their files: these are many. Nil: there is none.
    private var known: [String: WarmPages?] = [:]
    /// Endpoints of whose files some were others than recorded.
    private var stale: Set<String> = []
    private var recording: Set<String> = []
    /// When each endpoint's pages were last brought in; `nil` while that goes on.
    private var loaded: [String: Milliseconds?] = [:]

    /// Workers that start so soon after one another find what was read for the first of them.
    private static let pause: Milliseconds = 1_000

    init(folder: String, memoryReserve: Int64, now: @escaping @Sendable () -> Milliseconds, log: Logger) {
        (self.folder, self.memoryReserve, self.now, self.log) = (folder, memoryReserve, now, log)
    }

    private func path(of endpoint: String) -> String { "\(folder)/\(endpoint).json" }

    /// Forgets endpoints that are no more.
    func restore(endpoints: Set<String>) throws {
        try Files.makeDirectories(folder)
        for name in try Files.names(in: folder) where !name.hasSuffix(".json") || !endpoints.contains(String(name.dropLast(5))) {
            try Files.remove(folder + "/" + name)
        }
    }

    /// What is recorded of an endpoint.
    package func pages(of endpoint: String) async -> WarmPages? {
        if let found = known[endpoint], found == nil { return nil }
        let path = path(of: endpoint)
        let pages = try? await Blocking.run { try JSONDecoder().decode(WarmPages.self, from: Data(Files.read(path, limit: 64 << 20))) }
        // It may have been made or forgotten meanwhile. One that cannot be read is none: the next start makes another.
        if known[endpoint] == nil || pages == nil { known[endpoint] = .some(pages?.withoutFiles) }
        return pages
    }

    /// The same without its files.
    private func summary(of endpoint: String) async -> WarmPages? {
        if let found = known[endpoint] { return found }
        return await pages(of: endpoint)
    }

    /// Has it recorded anew by the next worker that starts. Durable when it returns.
    package func forget(_ endpoint: String) async throws {
        known[endpoint] = .some(nil)
        stale.remove(endpoint)
        recording.remove(endpoint)
        loaded[endpoint] = nil
        let (folder, path) = (folder, path(of: endpoint))
        try await Blocking.run {
            guard Files.exists(path) else { return }
            try Files.remove(path)
            try Files.syncDirectory(folder)
        }
    }

    // MARK: - Bringing in

    /// Brings in what the last worker read. Nil when there is nothing to bring in, or it was done a moment ago.
    func load(for worker: Worker, from places: WarmPlaces) async -> StartRecord.WarmPages? {
        let endpoint = worker.endpointID
        guard mayLoad(endpoint), let pages = await pages(of: endpoint), mayLoad(endpoint) else { return nil }
        loaded[endpoint] = .some(nil)
        defer { loaded[endpoint] = now() }
        let budget = max(0, Machine.availableMemoryBytes - memoryReserve) / 2
        let outcome = try? await PageLoader(folders: places.open(), budget: budget).load(pages)
        if let outcome, outcome.changedFiles > 0 { stale.insert(endpoint) }
        return outcome
    }

    private func mayLoad(_ endpoint: String) -> Bool {
        guard let last = loaded[endpoint] else { return true }
        return last.map { now() - $0 > Self.pause } ?? false
    }

    // MARK: - Recording

    /// A recorder for a worker that is about to start; nil when nothing is to be recorded.
    func recorder(for worker: Worker) async -> OpenRecorder? {
        let isNeeded =
            await summary(of: worker.endpointID).map { $0.isOutdated(for: worker, at: now()) } ?? true || stale.contains(worker.endpointID)
        guard isNeeded, !recording.contains(worker.endpointID) else { return nil }
        do {
            let recorder = try OpenRecorder()
            recording.insert(worker.endpointID)
            return recorder
        } catch {
            log.warning("cannot record what a worker reads", metadata: ["worker_id": "\(worker.id)", "error": "\(error)"])
            return nil
        }
    }

    /// Keeps what a worker read until now, when it became ready.
    func keep(_ recorder: OpenRecorder, of worker: Worker, in places: WarmPlaces) async {
        let endpoint = worker.endpointID
        defer { recording.remove(endpoint) }
        let (path, time) = (path(of: endpoint), now())
        do {
            let pages = try await Blocking.run {
                let pages = WarmPages(
                    imageID: worker.imageID, version: worker.version, workerID: worker.id, recordedAt: time,
                    files: places.record(recorder.take()))
                try Files.replace(path, with: Array(JSONEncoder().encode(pages)))
                return pages
            }
            // Forgotten while it was being made.
            guard recording.contains(endpoint) else { return try await forget(endpoint) }
            known[endpoint] = .some(pages.withoutFiles)
            stale.remove(endpoint)
            log.info(
                "recorded what a worker reads until it is ready",
                metadata: ["worker_id": "\(worker.id)", "files": "\(pages.files.count)", "mib": "\(pages.bytes >> 20)"])
        } catch {
            log.warning("cannot keep what a worker read", metadata: ["worker_id": "\(worker.id)", "error": "\(error)"])
        }
    }

    /// A worker ended before it was ready.
    func giveUp(_ endpoint: String) { recording.remove(endpoint) }
}
