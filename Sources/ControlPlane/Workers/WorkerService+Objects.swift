import Containers
import Disk
import Resource
import S3

/// What workers have of the user's object stores: mounts, and inputs fetched for their jobs.
extension WorkerService {
    /// Mounts what an endpoint asks for. Each store is asked first, so that a wrong one fails the start and says why.
    func mountBuckets(of endpoint: Endpoint, for id: String) async throws -> [ContainerSpec.Bind] {
        var binds: [ContainerSpec.Bind] = []
        for (index, text) in endpoint.bucketMounts.enumerated() {
            let mount = try BucketMount(text)
            let place = try stager.places.place(.store(mount.store))
            var probe = place.client
            (probe.timeout, probe.tries) = (.seconds(15), 2)
            do {
                _ = try await probe.send(.GET, place.bucket, query: [("list-type", "2"), ("max-keys", "1")]).body.collect(upTo: 1 << 20)
            } catch {
                throw RoostError(
                    .unavailable, "the store of the mount at \(mount.path) cannot be used: \(stager.places.explain(error, place))")
            }
            let (process, bind) = try await mounter.mount(
                mount, from: place, worker: id, index: index, cache: layout.worker(id) + "/bucket-cache")
            binds.append(bind)
            order(.watchMount(id, process))
        }
        return binds
    }

    /// A worker without one of its mounts cannot do its jobs: it goes, and they are told why.
    func watchMount(_ id: String, _ process: BucketMounter.Process) async {
        try? await ProcessEnd.wait(for: process.pid)
        guard !Task.isCancelled else { return }
        breakDown(id, reason: "the bucket mount at \(process.path) died: \(process.lastWords)")
    }

    /// Fetches the inputs of a job onto its worker's disk and hands it over.
    func prepare(_ id: String, _ job: Job, _ payload: JobPayload, _ folder: String) async {
        guard let entry = entries[id], let endpoint = catalog.endpoint(job.endpointID) else { return }
        var outcome: Result<JobPayload, RoostError>
        do {
            var resolved = payload
            resolved.input = try await stager.resolve(
                payload.input, folder: folder, worker: entry.worker, endpoint: endpoint, root: runtime.rootPath(entry.container))
            outcome = .success(resolved)
        } catch { outcome = .failure((error as? RoostError) ?? RoostError(.internalFault, "its inputs could not be fetched: \(error)")) }
        do { try await jobs.prepared(job.id, worker: id, folder: folder, payload: outcome) } catch {
            log.error("failed to record a job", metadata: ["job_id": "\(job.id)", "error": "\(error)"])
        }
    }
}
