import CLinux
import CTLS
import Glibc
import Synchronization

/// A client's socket, plain or TLS, read and written by one thread that waits.
final class Connection {
    let socket: Int32
    private var tls: UnsafeMutableRawPointer?
    private var buffer = [UInt8](repeating: 0, count: 16 << 10)
    private var start = 0
    private var end = 0
    /// Waiting for a request: then it may be ended at any time.
    let isIdle = Atomic(false)
    /// Nothing can be sent or received any more.
    private(set) var isBroken = false

    /// Bytes of a file sent by one call.
    private static let fileStep: Int64 = 1 << 20

    enum Reading: Equatable {
        case bytes(Int)
        case end
        case timeout
    }

    init(socket: Int32, tls: UnsafeMutableRawPointer?) {
        self.socket = socket
        self.tls = tls
    }

    /// Says goodbye, while the socket is still this connection's: its number means another one soon.
    func hangUp() {
        if let tls { ctls_close(tls) }
        tls = nil
        isBroken = true
    }

    // MARK: - Receiving

    /// Up to the buffer's size, from what came already or else from the socket.
    func receive(_ target: UnsafeMutableRawBufferPointer) -> Reading {
        if start < end {
            let count = min(target.count, end - start)
            buffer.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<(start + count)])) }
            start += count
            return .bytes(count)
        }
        return receiveFresh(target)
    }

    private func receiveFresh(_ target: UnsafeMutableRawBufferPointer) -> Reading {
        guard !isBroken, let base = target.baseAddress else { return .end }
        while true {
            var count = 0
            var isTimeout = false
            if let tls {
                count = ctls_read(tls, base, target.count)
                isTimeout = count == -2
            } else {
                count = recv(socket, base, target.count, 0)
                if count < 0, errno == EINTR { continue }
                isTimeout = count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)
            }
            if count > 0 { return .bytes(count) }
            if isTimeout { return .timeout }
            isBroken = count < 0
            return .end
        }
    }

    /// The bytes of a request's head with its empty line; nil when the client went, or said nothing for too long.
    func readHead(within seconds: Int64) throws(S3Error) -> ArraySlice<UInt8>? {
        var begin: timespec?
        while true {
            if start < end {
                if let headEnd = HTTPHead.end(of: buffer[start..<end]) {
                    defer { start = headEnd }
                    return buffer[start..<headEnd]
                }
                guard end - start < HTTPHead.maximumBytes else {
                    throw S3Error(.invalidRequest, "the request's head is over \(HTTPHead.maximumBytes) bytes")
                }
                let since = begin ?? Self.now
                begin = since
                guard Self.now.tv_sec - since.tv_sec <= Int(seconds) else { return nil }
            }
            guard fill() else { return nil }
        }
    }

    /// A line of a chunked body, without its CRLF.
    func readLine(limit: Int = 1_024) throws(S3Error) -> ArraySlice<UInt8> {
        while true {
            if let newline = buffer[start..<end].firstIndex(of: 0x0A) {
                defer { start = newline + 1 }
                let line = buffer[start..<newline]
                guard line.last == 0x0D else { throw S3Error(.invalidRequest, "a line of the chunked body does not end with CR LF") }
                return line.dropLast()
            }
            guard end - start < limit else { throw S3Error(.invalidRequest, "a line of the chunked body is over \(limit) bytes") }
            guard fill() else { throw S3Error(.incompleteBody, "the connection ended inside the body") }
        }
    }

    /// Brings more into the buffer; false at the end, an error, or after silence.
    private func fill() -> Bool {
        if start == end {
            (start, end) = (0, 0)
        } else if end == buffer.count {
            if start > 0 {
                buffer.removeSubrange(..<start)
                buffer += [UInt8](repeating: 0, count: start)
                (start, end) = (0, end - start)
            } else {
                buffer += [UInt8](repeating: 0, count: buffer.count)
            }
        }
        let room = buffer.count - end
        let (from, outcome) = buffer.withUnsafeMutableBytes { raw in
            (end, receiveFresh(UnsafeMutableRawBufferPointer(rebasing: raw[end..<(end + room)])))
        }
        guard case .bytes(let count) = outcome else { return false }
        end = from + count
        return true
    }

    private static var now: timespec {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return now
    }

    // MARK: - Sending

    func send(_ bytes: [UInt8]) { bytes.withUnsafeBytes { send($0) } }

    private func send(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes
        while !isBroken, let base = rest.baseAddress, !rest.isEmpty {
            let count = tls.map { ctls_write($0, base, rest.count) } ?? Glibc.send(socket, base, rest.count, Int32(MSG_NOSIGNAL))
            if count < 0, tls == nil, errno == EINTR { continue }
            guard count > 0 else {
                isBroken = true
                return
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }

    /// Sends a range of a file after `head`. A file that shrank meanwhile ends the connection: the length was promised.
    func send(_ head: [UInt8], file: Int32, _ range: ByteRange) {
        if tls == nil, range.length > 64 << 10 {
            send(head)
            sendFile(file, range)
        } else {
            sendCopy(head, file, range)
        }
    }

    private func sendFile(_ file: Int32, _ range: ByteRange) {
        var (offset, left) = (range.offset, range.length)
        while left > 0, !isBroken {
            let count = cl_send_file(socket, file, offset, Int(min(left, Self.fileStep)))
            if count == Int64(-EINTR) { continue }
            guard count > 0 else {
                isBroken = true
                return
            }
            offset += count
            left -= count
        }
    }

    /// Through memory, with the head in the same packet.
    private func sendCopy(_ head: [UInt8], _ file: Int32, _ range: ByteRange) {
        var out = head
        var (offset, left) = (range.offset, range.length)
        repeat {
            let step = Int(min(left, 256 << 10))
            let begin = out.count
            out.append(contentsOf: repeatElement(0, count: step))
            let count = out.withUnsafeMutableBytes { pread(file, $0.baseAddress.map { $0 + begin }, step, off_t(offset)) }
            guard count == step else {
                isBroken = true
                return
            }
            offset += Int64(step)
            left -= Int64(step)
            send(out)
            out.removeAll(keepingCapacity: true)
        } while left > 0 && !isBroken
    }

    /// Says that nothing more will be sent, so that the client reads the answer while it may still be sending.
    func finishSending() { if tls == nil { shutdown(socket, Int32(SHUT_WR)) } }
}
