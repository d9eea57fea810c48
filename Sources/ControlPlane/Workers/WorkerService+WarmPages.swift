import Containers
import Disk
import Resource

/// Warm pages: what the next worker will read comes into memory while its container is made.
extension WorkerService {
    /// The recording of what one worker reads until it is ready.
    struct WarmRecording: Sendable {
        var worker: Worker
        var recorder: OpenRecorder
        var places: WarmPlaces

        /// Also what it opens in its other mounts: once they are made, before its process starts. What cannot be watched is not recorded.
        @Sendable func addMounts(of process: Int32) {
            guard let root = try? ContainedFolder(root: "/proc/\(process)/root") else { return }
            for target in places.mountTargets { try? root.withFolder(target) { try recorder.add(mount: $0) } }
        }
    }

    /// Brings in what the last worker of its endpoint read.
    func warm(_ id: String) async {
        guard let worker = entries[id]?.worker, let endpoint = catalog.endpoint(worker.endpointID) else { return }
        guard endpoint.warmPages else {
            // The next start tries again.
            _ = try? await warmPages.forget(endpoint.id)
            return
        }
        // Why its image or volume cannot be used is told by the start itself.
        guard let image = try? catalog.image(worker.imageName), let places = try? await places(of: worker, endpoint, image),
            let outcome = await warmPages.load(for: worker, from: places)
        else { return }
        entries[id]?.worker.start?.warmPages = outcome
        mark(.warmPages, of: id)
    }

    private func places(of worker: Worker, _ endpoint: Endpoint, _ image: Image) async throws -> WarmPlaces {
        let images = images
        let layers = try await Blocking.run { try images.mount(image) }
        var places = [
            WarmPlaces.Place(
                target: "/", sources: image.layers.reversed().map { .init(name: "layer:" + $0, folder: layers.path($0)) })
        ]
        if let volume = worker.volumeID {
            let folder = try await volumes.open(volume).dataPath
            places.append(.init(target: Self.volumeTarget, sources: [.init(name: "volume:" + volume, folder: folder)]))
        }
        for bind in await models.binds(of: endpoint) {
            let name = bind.source.split(separator: "/").last.map(String.init) ?? ""
            places.append(.init(target: bind.target, sources: [.init(name: "model:" + name, folder: bind.source)]))
        }
        return WarmPlaces(places)
    }

    /// Begins to record what a worker opens in its image; nil when there is no need.
    func beginRecording(_ worker: Worker, _ endpoint: Endpoint, _ image: Image, rootfs: String) async -> WarmRecording? {
        guard endpoint.warmPages, let recorder = await warmPages.recorder(for: worker) else { return nil }
        do {
            try recorder.add(filesystem: rootfs)
            let recording = WarmRecording(worker: worker, recorder: recorder, places: try await places(of: worker, endpoint, image))
            recordings[worker.id] = recording
            return recording
        } catch {
            log.warning("cannot record what a worker reads", metadata: ["worker_id": "\(worker.id)", "error": "\(error)"])
            await warmPages.giveUp(worker.endpointID)
            return nil
        }
    }

    func endRecording(_ id: String) async {
        guard let recording = recordings.removeValue(forKey: id) else { return }
        await warmPages.keep(recording.recorder, of: recording.worker, in: recording.places)
    }

    /// A worker is gone. That it was recorded is no news unless it never became ready.
    func dropRecording(of worker: Worker) async {
        if recordings.removeValue(forKey: worker.id) != nil { await warmPages.giveUp(worker.endpointID) }
    }
}
