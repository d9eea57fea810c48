/// How one start of a worker went: milliseconds from the decision to start it until each step was done.
package struct StartRecord: Codable, Sendable, Equatable {
    package enum Kind: String, Codable, Sendable, CaseIterable {
        /// Made from nothing.
        case fresh
        /// Parked after its last job, and thawed.
        case thawed
        /// Started ahead of demand, parked, and thawed for its first job.
        case spare
    }

    package enum Step: String, Codable, Sendable, CaseIterable {
        /// A place was chosen and the worker recorded.
        case placed
        case image, containerVolume, mounts, process, warmPages, thawed, firstPoll, firstJob, firstResult
    }

    package struct Mark: Codable, Sendable, Equatable {
        package var step: Step
        /// Since the decision.
        package var milliseconds: Double
    }

    /// What was brought into memory beside it, because an earlier worker had read it.
    package struct WarmPages: Codable, Sendable, Equatable {
        package var files: Int
        package var bytes: Int64
        /// Those of the bytes that were not in memory.
        package var coldBytes: Int64
        /// Files that are not what they were.
        package var changedFiles: Int
        package var milliseconds: Double

        package init(files: Int, bytes: Int64, coldBytes: Int64, changedFiles: Int, milliseconds: Double) {
            (self.files, self.bytes, self.coldBytes, self.changedFiles) = (files, bytes, coldBytes, changedFiles)
            self.milliseconds = StartRecord.rounded(milliseconds)
        }

        var json: JSON {
            [
                "files": .int(files), "bytes": .int(Int(bytes)), "coldBytes": .int(Int(coldBytes)), "changedFiles": .int(changedFiles),
                "ms": .number(String(milliseconds)),
            ]
        }
    }

    package var kind: Kind
    package var workerID: String
    package var at: Milliseconds
    /// How long the oldest job had waited when the start was decided.
    package var queuedMilliseconds: Milliseconds
    package private(set) var marks: [Mark] = []
    package var warmPages: WarmPages?

    package init(kind: Kind, workerID: String, at: Milliseconds, queuedMilliseconds: Milliseconds) {
        (self.kind, self.workerID, self.at, self.queuedMilliseconds) = (kind, workerID, at, queuedMilliseconds)
    }

    package func isSameStart(as other: StartRecord) -> Bool {
        workerID == other.workerID && at == other.at && kind == other.kind
    }

    /// Notes when a step was done; the first time counts.
    package mutating func mark(_ step: Step, _ milliseconds: Double) {
        guard self[step] == nil else { return }
        marks.append(Mark(step: step, milliseconds: Self.rounded(milliseconds)))
    }

    private static func rounded(_ milliseconds: Double) -> Double { (milliseconds * 100).rounded() / 100 }

    package subscript(step: Step) -> Double? { marks.first { $0.step == step }?.milliseconds }

    /// Until the worker could take a job: polled when it was made, or had one when it was thawed.
    package var ready: Double? { kind == .fresh ? self[.firstPoll] : self[.firstJob] }

    package var json: JSON {
        .compact([
            "kind": .string(kind.rawValue), "workerId": .string(workerID), "at": .string(Timestamp.text(at)),
            "queuedMs": .int(Int(queuedMilliseconds)),
            "steps": .array(marks.map { ["step": .string($0.step.rawValue), "ms": .number(String($0.milliseconds))] }),
            "warmPages": warmPages?.json,
        ])
    }

    /// `{"count", "p50", "p90", "p98"}` of times in milliseconds.
    package static func percentiles(_ times: [Double]) -> JSON {
        let sorted = times.sorted()
        func at(_ share: Double) -> JSON {
            sorted.isEmpty ? .null : .number(String(sorted[min(sorted.count - 1, Int((Double(sorted.count) * share).rounded(.up)) - 1)]))
        }
        return ["count": .int(sorted.count), "p50": at(0.5), "p90": at(0.9), "p98": at(0.98)]
    }
}
