/// A copy of all that lies below one place to another: from a volume to an object store, or back. Only what differs is
/// copied, and nothing is ever deleted.
package struct StoreSync: Codable, Sendable, Equatable {
    package enum State: String, Codable, Sendable {
        /// Runs later: at its time, or after a job.
        case waiting = "WAITING"
        case running = "RUNNING"
        case completed = "COMPLETED"
        case failed = "FAILED"
    }

    /// How far it is, or was at its end.
    package struct Progress: Codable, Sendable, Equatable {
        package var files = 0
        package var bytes: Int64 = 0
        package var copiedFiles = 0
        package var copiedBytes: Int64 = 0
        package var unchangedFiles = 0
        package var failedFiles = 0

        package init() {}
    }

    package var id: String
    /// `volume:ID/path` or `store:NAME/path`.
    package var source: String
    package var target: String
    package var everySeconds: Int?
    /// Runs after jobs of this endpoint that completed.
    package var afterEndpointId: String?
    package var state: State
    package var runs = 0
    package var progress = Progress()
    /// Why files were not copied, the first of them.
    package var errors: [String] = []
    /// Uploads in parts that were begun, by key: a later run goes on with them.
    package var uploads: [String: String] = [:]
    package var createdAt: Milliseconds
    package var startedAt: Milliseconds?
    package var endedAt: Milliseconds?

    package static let fields: [Field] = [
        Field("source", .text(1_200), required: true, "volume:ID[/path] or store:NAME[/path]"),
        Field("target", .text(1_200), required: true, "the same; one side is a store"),
        Field("everySeconds", .integer(10...31_536_000), "run again so long after each run's start"),
        Field("afterEndpointId", .text(64), "run after jobs of this endpoint that completed, and not before"),
    ]

    package init(id: String, values: FieldValues, at now: Milliseconds) {
        self.id = id
        source = values.string("source") ?? ""
        target = values.string("target") ?? ""
        everySeconds = values.int("everySeconds")
        afterEndpointId = values.string("afterEndpointId").flatMap { $0.isEmpty ? nil : $0 }
        state = .waiting
        createdAt = now
    }

    /// Whether it stays after a run.
    package var repeats: Bool { everySeconds != nil || afterEndpointId != nil }

    /// When it is to run next by the clock alone; nil for never.
    package var nextRun: Milliseconds? {
        guard state != .running else { return nil }
        guard let everySeconds else { return startedAt == nil && afterEndpointId == nil ? createdAt : nil }
        return startedAt.map { $0 + Int64(everySeconds) * 1_000 } ?? createdAt
    }

    package var json: JSON {
        .compact([
            "id": .string(id), "source": .string(source), "target": .string(target), "everySeconds": everySeconds.map { .int($0) },
            "afterEndpointId": afterEndpointId.map { .string($0) }, "status": .string(state.rawValue), "runs": .int(runs),
            "files": .int(progress.files), "bytes": .int(Int(progress.bytes)), "copiedFiles": .int(progress.copiedFiles),
            "copiedBytes": .int(Int(progress.copiedBytes)), "unchangedFiles": .int(progress.unchangedFiles),
            "failedFiles": .int(progress.failedFiles), "errors": .strings(errors), "createdAt": .string(Timestamp.text(createdAt)),
            "startedAt": startedAt.map { .string(Timestamp.text($0)) }, "endedAt": endedAt.map { .string(Timestamp.text($0)) },
        ])
    }
}
