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
        case image, containerVolume, mounts, process, thawed, firstPoll, firstJob, firstResult
    }

    package struct Mark: Codable, Sendable, Equatable {
        package var step: Step
        /// Since the decision.
        package var milliseconds: Double
    }

    package var kind: Kind
    package var workerID: String
    package var at: Milliseconds
    /// How long the oldest job had waited when the start was decided.
    package var queuedMilliseconds: Milliseconds
    package private(set) var marks: [Mark] = []

    package init(kind: Kind, workerID: String, at: Milliseconds, queuedMilliseconds: Milliseconds) {
        (self.kind, self.workerID, self.at, self.queuedMilliseconds) = (kind, workerID, at, queuedMilliseconds)
    }

    /// Notes when a step was done; the first time counts.
    package mutating func mark(_ step: Step, _ milliseconds: Double) {
        guard self[step] == nil else { return }
        marks.append(Mark(step: step, milliseconds: (milliseconds * 100).rounded() / 100))
    }

    package subscript(step: Step) -> Double? { marks.first { $0.step == step }?.milliseconds }

    /// Until the worker could take a job: polled when it was made, or had one when it was thawed.
    package var ready: Double? { kind == .fresh ? self[.firstPoll] : self[.firstJob] }

    package var json: JSON {
        [
            "kind": .string(kind.rawValue), "workerId": .string(workerID), "at": .string(Timestamp.text(at)),
            "queuedMs": .int(Int(queuedMilliseconds)),
            "steps": .array(marks.map { ["step": .string($0.step.rawValue), "ms": .number(String($0.milliseconds))] }),
        ]
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
