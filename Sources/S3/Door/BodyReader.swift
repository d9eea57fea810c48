import Glibc

/// The body of one request as HTTP frames it.
final class BodyReader {
    private let connection: Connection
    private let framing: HTTPHead.Framing
    private var left: Int
    private var isEnded: Bool
    private var needsContinue: Bool
    private var isFirstChunk = true

    init(_ connection: Connection, _ head: HTTPHead) {
        self.connection = connection
        framing = head.framing
        needsContinue = head.expectsContinue
        switch head.framing {
        case .none: (left, isEnded) = (0, true)
        case .length(let length): (left, isEnded) = (length, length == 0)
        case .chunked: (left, isEnded) = (0, false)
        }
    }

    /// The announced length, if it was.
    var length: Int? {
        switch framing {
        case .none: 0
        case .length(let length): length
        case .chunked: nil
        }
    }

    /// Whether nothing of it is left to come.
    var isConsumed: Bool { isEnded }

    /// Whether the client still waits for leave to send it.
    var isHeldBack: Bool { needsContinue && !isEnded }

    /// Some bytes of it, at most a buffer full; 0 at its end.
    func read(_ target: UnsafeMutableRawBufferPointer) throws(S3Error) -> Int {
        if isEnded { return 0 }
        if needsContinue {
            needsContinue = false
            connection.send(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8))
        }
        if framing == .chunked, left == 0 {
            try nextChunk()
            if isEnded { return 0 }
        }
        let window = UnsafeMutableRawBufferPointer(rebasing: target[..<min(target.count, left)])
        switch connection.receive(window) {
        case .bytes(let count):
            left -= count
            if left == 0, framing != .chunked { isEnded = true }
            return count
        case .timeout: throw S3Error(.requestTimeout, "the body stopped coming")
        case .end: throw S3Error(.incompleteBody, "the connection ended \(left) bytes before the body did")
        }
    }

    private func nextChunk() throws(S3Error) {
        if !isFirstChunk {
            guard try connection.readLine().isEmpty else { throw S3Error(.invalidRequest, "a chunk is longer than its size says") }
        }
        isFirstChunk = false
        let line = try connection.readLine()
        let digits = String(decoding: line.prefix { $0 != UInt8(ascii: ";") }, as: UTF8.self)
        guard (1...8).contains(digits.utf8.count), digits.utf8.allSatisfy({ isxdigit(Int32($0)) != 0 }), let size = Int(digits, radix: 16)
        else { throw S3Error(.invalidRequest, "a chunk's size is not one to eight hexadecimal digits") }
        left = size
        guard size == 0 else { return }
        // HTTP's own trailers mean nothing to us.
        for _ in 0..<32 {
            if try connection.readLine().isEmpty {
                isEnded = true
                return
            }
        }
        throw S3Error(.invalidRequest, "the chunked body has too many trailers")
    }

    /// Reads what nobody wanted, up to a bound; true when the connection is at the next request then.
    func drain(upTo bound: Int) -> Bool {
        var total = 0
        let deadline = time(nil) + 30
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while !isEnded, total < bound, time(nil) < deadline {
            guard let count = try? buffer.withUnsafeMutableBytes({ raw throws(S3Error) in try read(raw) }) else { return false }
            total += count
        }
        return isEnded
    }
}
