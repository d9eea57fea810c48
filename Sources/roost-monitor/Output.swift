import Glibc

/// What the monitor says to the server that started it.
enum Output {
    static func fail(_ text: String) -> Never {
        write(text + "\n", to: 1)
        exit(1)
    }

    /// Copies the background process's report to stdout; exits with 0 when it says `started`.
    static func relay(from descriptor: Int32) -> Never {
        var report: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { break }
            report += buffer[..<count]
        }
        let text = String(decoding: report, as: UTF8.self)
        write(text.isEmpty ? "the monitor died before it reported\n" : text, to: 1)
        exit(text.hasPrefix("started ") ? 0 : 1)
    }

    static func write(_ text: String, to descriptor: Int32) { write(Array(text.utf8), to: descriptor) }

    static func write(_ bytes: [UInt8], to descriptor: Int32) {
        var offset = 0
        while offset < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress.map { $0 + offset }, $0.count - offset) }
            if count < 0 {
                if errno == EINTR { continue }
                return
            }
            offset += count
        }
    }
}
