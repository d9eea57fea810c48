import Containers
import Disk
import Resource

/// Images from registries. Whoever wants one that is on its way waits for the same pull.
extension ImageService {
    struct Pull: Sendable {
        var task: Task<Image, any Error>?
        var folder: String
        var startedAt: Milliseconds
        /// Bytes of its layers as the registry has them; nil until it has said.
        var total: Int64?
        var failure: String?
        var endedAt: Milliseconds?
    }

    /// After a failure, until jobs that wait for an image have it tried again.
    private static let pause: Milliseconds = 30_000

    /// Pulls an image, or waits for the pull that runs.
    package func pull(_ name: String, auth: String?) async throws -> Image {
        let name = Image.normalize(name)
        guard Self.isName(name) else {
            throw RoostError(.invalid, "field 'name': '\(name.prefix(80))' is not an image name like team/worker:1")
        }
        return try await begin(name, credentials(auth)).value
    }

    private nonisolated func credentials(_ auth: String?) throws -> Registry.Credentials? {
        try auth.map { try catalog.registryAuth($0) }.map {
            Registry.Credentials(username: $0.username, password: try catalog.password(of: $0))
        }
    }

    /// For a job that waits: has the image pulled, and says how that goes.
    func want(_ name: String, auth: String?) -> String {
        let name = Image.normalize(name)
        if let pull = pulls[name] {
            if pull.task != nil { return "image \(name) is being pulled: \(progress(pull))" }
            if let failure = pull.failure, let ended = pull.endedAt, ended + Self.pause > catalog.now() {
                return "image missing: \(name); pulling it failed: \(failure); import it: roost image import \(name) FILE"
            }
        }
        Task { _ = try? await pull(name, auth: auth) }
        return "image missing: \(name); it is being pulled"
    }

    private func begin(_ name: String, _ credentials: Registry.Credentials?) -> Task<Image, any Error> {
        if let task = pulls[name]?.task { return task }
        let folder = images.staging + "/" + Identifier.make(length: Limits.shortIDLength)
        let task = Task { try await self.perform(name, credentials, folder) }
        pulls[name] = Pull(task: task, folder: folder, startedAt: catalog.now())
        return task
    }

    private func perform(_ name: String, _ credentials: Registry.Credentials?, _ folder: String) async throws -> Image {
        do {
            let image = try await arrive {
                try Files.makeDirectories(folder)
                let registry = try Registry(image: name, credentials: credentials, folder: folder)
                let there = try await registry.describe()
                pulls[name]?.total = there.bytes
                if let known = try? catalog.image(name), known.manifestDigest == there.digest { return known }
                return try await images.pull(registry, there, name: name, folder: folder, at: catalog.now())
            }
            await finish(name, folder, failure: nil)
            log.info("image pulled", metadata: ["image": "\(name)", "digest": "\(image.manifestDigest ?? "")"])
            return image
        } catch {
            let error = (error as? DiskError)?.roostError ?? error
            let text = (error as? RoostError)?.message ?? "\(error)"
            await finish(name, folder, failure: text)
            log.warning("image not pulled", metadata: ["image": "\(name)", "error": "\(text)"])
            throw error
        }
    }

    private func finish(_ name: String, _ folder: String, failure: String?) async {
        // Start-up empties the staging folder should this fail.
        _ = try? await Command.run("rm", ["-rf", folder])
        pulls[name]?.task = nil
        pulls[name]?.failure = failure
        pulls[name]?.endedAt = catalog.now()
        if failure != nil { for endpoint in catalog.snapshot.endpoints.keys { catalog.demand.signal(endpoint) } }
    }

    private func progress(_ pull: Pull) -> String {
        guard let total = pull.total else { return "asking the registry" }
        let here = ImageStore.bytes(below: pull.folder + "/oci")
        return here < total ? "\(here >> 20) of \(total >> 20) MiB" : "unpacking \(total >> 20) MiB"
    }

    /// The pulls since the server started, the last of each image.
    package func pullList() -> [JSON] {
        pulls.sorted { $0.value.startedAt < $1.value.startedAt }.map { name, pull in
            .compact([
                "name": .string(name), "status": pull.task != nil ? "PULLING" : pull.failure == nil ? "COMPLETED" : "FAILED",
                "progress": pull.task != nil ? .string(progress(pull)) : nil, "totalBytes": pull.total.map { .int(Int($0)) },
                "error": pull.failure.map { .string($0) }, "startedAt": .string(Timestamp.text(pull.startedAt)),
                "endedAt": pull.endedAt.map { .string(Timestamp.text($0)) },
            ])
        }
    }

    /// An image with what its registry says of its name now: whether it is still the same.
    package func inspect(_ id: String, asksRegistry: Bool, auth: String?) async throws -> JSON {
        let image = try catalog.image(id)
        guard asksRegistry, case .object(var members) = image.json else { return image.json }
        let folder = images.staging + "/" + Identifier.make(length: Limits.shortIDLength)
        try Files.makeDirectories(folder)
        defer { _ = try? Files.remove(folder) }
        let there = try await Registry(image: image.name, credentials: credentials(auth), folder: folder).describe()
        members += [.init("registryDigest", .string(there.digest)), .init("isStale", .bool(image.manifestDigest != there.digest))]
        return .object(members)
    }
}
