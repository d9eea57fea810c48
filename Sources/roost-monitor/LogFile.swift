import Glibc

/// A worker's log in the CRI format: `TIME STREAM F|P LINE`. One older file is kept, as `LOG.1`.
///
/// A full disk loses log lines, never the worker: what cannot be written is dropped.
struct LogFile {
    private let path: String
    private let limit: Int
    private var descriptor: Int32
    private var written: Int
    private var pending: [String: [UInt8]] = [:]
    /// Longer lines are cut into parts marked `P`.
    private static let longestLine = 16 << 10

    init(path: String, limit: Int) {
        self.path = path
        self.limit = limit
        descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        written = descriptor < 0 ? 0 : Int(lseek(descriptor, 0, SEEK_END))
    }

    mutating func append(_ bytes: ArraySlice<UInt8>, stream: String) {
        var line = pending[stream] ?? []
        for byte in bytes {
            if byte == UInt8(ascii: "\n") {
                record(line, stream: stream, tag: "F")
                line.removeAll(keepingCapacity: true)
            } else {
                line.append(byte)
                if line.count >= Self.longestLine {
                    record(line, stream: stream, tag: "P")
                    line.removeAll(keepingCapacity: true)
                }
            }
        }
        pending[stream] = line
    }

    mutating func finish() {
        for (stream, line) in pending where !line.isEmpty { record(line, stream: stream, tag: "F") }
        pending = [:]
    }

    private mutating func record(_ line: [UInt8], stream: String, tag: String) {
        let bytes = Array("\(Self.timestamp()) \(stream) \(tag) ".utf8) + line + [UInt8(ascii: "\n")]
        if written + bytes.count > limit { rotate() }
        Output.write(bytes, to: descriptor)
        written += bytes.count
    }

    private mutating func rotate() {
        rename(path, path + ".1")
        close(descriptor)
        descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        written = 0
    }

    private static func timestamp() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var parts = tm()
        gmtime_r(&now.tv_sec, &parts)
        func pad(_ value: Int, _ width: Int) -> String {
            let text = String(value)
            return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
        }
        let date = "\(parts.tm_year + 1_900)-\(pad(Int(parts.tm_mon) + 1, 2))-\(pad(Int(parts.tm_mday), 2))"
        let clock = "\(pad(Int(parts.tm_hour), 2)):\(pad(Int(parts.tm_min), 2)):\(pad(Int(parts.tm_sec), 2))"
        return "\(date)T\(clock).\(pad(now.tv_nsec, 9))Z"
    }
}
