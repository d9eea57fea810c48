import Disk
import Glibc

/// How far a transfer is: one line on a terminal, and one at its end everywhere.
final class Progress: Sendable {
    private struct State {
        var totalBytes: Int64
        var totalFiles: Int
        var bytes: Int64 = 0
        var skipped: Int64 = 0
        var files = 0
        var shown: Double = 0
    }

    private let state: Locked<State>
    private let begin = Progress.now
    private let isQuiet: Bool

    init(files: Int, bytes: Int64, isQuiet: Bool) {
        state = Locked(State(totalBytes: bytes, totalFiles: files))
        self.isQuiet = isQuiet
    }

    private static var now: Double {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
    }

    /// Bytes that went over the wire, or that an earlier run had brought over.
    func add(_ bytes: Int64, wasThere: Bool = false) {
        let line = state.withLock { state -> String? in
            state.bytes += bytes
            if wasThere { state.skipped += bytes }
            let now = Self.now
            guard now - state.shown > 0.1 else { return nil }
            state.shown = now
            return self.line(state)
        }
        if let line, !isQuiet { Terminal.status(line) }
    }

    func finishFile() { state.withLock { $0.files += 1 } }

    /// `12.3 MiB of 1.0 GiB  34 %  210.0 MiB/s  ETA 0:05  3 of 12 files`
    private func line(_ state: State) -> String {
        let rate = Double(state.bytes - state.skipped) / max(Self.now - begin, 0.001)
        let left = rate > 0 ? Double(max(0, state.totalBytes - state.bytes)) / rate : 0
        let percent = state.totalBytes > 0 ? min(100, state.bytes * 100 / state.totalBytes) : 100
        let seconds = Int(min(left, 359_999))
        let clock = "\(seconds / 60):\(seconds % 60 < 10 ? "0" : "")\(seconds % 60)"
        return "\(Self.text(state.bytes)) of \(Self.text(state.totalBytes))  \(percent) %  \(Self.text(Int64(rate)))/s  ETA \(clock)  "
            + "\(state.files) of \(state.totalFiles) files"
    }

    /// What was done, for the end.
    var summary: String {
        state.withLock { state in
            let seconds = max(Self.now - begin, 0.001)
            let moved = state.bytes - state.skipped
            let resumed = state.skipped > 0 ? ", \(Self.text(state.skipped)) of it from an earlier run" : ""
            return "\(state.files) files, \(Self.text(state.bytes))\(resumed), in \(Int(seconds * 10) / 10).\(Int(seconds * 10) % 10) s "
                + "(\(Self.text(Int64(Double(moved) / seconds)))/s)"
        }
    }

    /// Bytes for people: `1.5 GiB`.
    static func text(_ bytes: Int64) -> String {
        var (value, unit) = (Double(max(0, bytes)), 0)
        while value >= 1_024, unit < 4 { (value, unit) = (value / 1_024, unit + 1) }
        let tenths = Int(value * 10)
        return unit == 0 ? "\(bytes) B" : "\(tenths / 10).\(tenths % 10) \(["B", "KiB", "MiB", "GiB", "TiB"][unit])"
    }
}
