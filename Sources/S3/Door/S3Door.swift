import CLinux
import CTLS
import Disk
import Glibc
import Logging
import Resource
import Synchronization

/// How the door listens.
package struct DoorConfiguration: Sendable {
    package var host: String
    package var port: Int
    /// PEM files; TLS when both are given.
    package var certificate: String?
    package var privateKey: String?
    /// Names under which buckets are hosts: `BUCKET.DOMAIN`.
    package var domains: [String]
    /// Connections beyond this are told to come again.
    package var maximumConnections: Int
    /// Seconds without a byte, inside a request or between two.
    package var silenceSeconds: Int
    /// After so long without a new part an upload is given up.
    package var abandonedUploadSeconds: Int64

    package init(
        host: String, port: Int, certificate: String? = nil, privateKey: String? = nil, domains: [String] = ["localhost"],
        maximumConnections: Int = 2_048, silenceSeconds: Int = 60, abandonedUploadSeconds: Int64 = 7 * 86_400
    ) {
        (self.host, self.port, self.certificate, self.privateKey) = (host, port, certificate, privateKey)
        (self.domains, self.maximumConnections, self.silenceSeconds) = (domains, maximumConnections, silenceSeconds)
        self.abandonedUploadSeconds = abandonedUploadSeconds
    }
}

/// The S3 listener: one thread a connection, which waits for socket and disk alike.
///
/// Why threads: an upload is a loop of recv, hash and write, a download one sendfile, and both may wait for the disk.
/// A thread does that without handing each piece from an event loop to a pool and back, and a cold file or a slow fsync
/// keeps nobody else waiting. `docs/architecture.md` has the figures.
package final class S3Door: Sendable {
    private struct State {
        var sockets: Set<Int32> = []
        /// Those that have said something.
        var connections: [Int32: Connection] = [:]
    }

    private let configuration: DoorConfiguration
    private let service: S3Service
    private let log: Logger
    private let state = Locked(State())
    private let isStopping = Atomic(false)
    private let requests = Atomic(UInt64(0))
    private let seed = UInt64.random(in: 0...(1 << 60))
    private let listener: Int32
    private let context: TLSContext?
    /// The port that was bound.
    package let port: Int

    /// A head must be there within this many seconds of its first byte.
    private static let headSeconds: Int64 = 30
    /// What is read of a body that was refused, so that its sender hears why.
    private static let drainBytes = 1 << 30

    /// Binds at once; connections are taken from then on.
    package init(_ configuration: DoorConfiguration, directory: any BucketDirectory, log: Logger) throws {
        self.configuration = configuration
        self.log = log
        service = S3Service(directory: directory, domains: configuration.domains, log: log)
        context = try TLSContext(configuration)
        var bound: Int32 = 0
        let address = "\(configuration.host):\(configuration.port)"
        listener = try checkRaw(cl_listen(configuration.host, Int32(configuration.port), &bound), "listen", address)
        port = Int(bound)
        // Before the first request, as what is staged now is nobody's.
        sweep(isStart: true)
        _ = DetachedThread.start { [self] in accept() }
    }

    package var isSecure: Bool { context != nil }

    /// Multipart uploads of a bucket that wait for their completion.
    package func uploads(of bucket: Bucket) -> (count: Int, bytes: Int64) {
        (try? service.tree(bucket).uploadTotals()) ?? (0, 0)
    }

    /// Removes what crashes and forgotten uploads left on all volumes.
    package func sweep(isStart: Bool) {
        for bucket in service.directory.buckets() {
            do {
                let count = try service.tree(bucket).sweep(
                    olderThan: configuration.abandonedUploadSeconds, now: Int64(time(nil)), isStart: isStart)
                if count > 0 { log.info("abandoned uploads removed", metadata: ["volume_id": "\(bucket.id)", "count": "\(count)"]) }
            } catch { log.error("failed to sweep uploads", metadata: ["volume_id": "\(bucket.id)", "error": "\(error)"]) }
        }
    }

    /// Ends: nothing new is taken, requests under way may finish within `grace` seconds. Blocks its thread.
    package func stop(grace: Int) {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        state.withLock { state in
            for (socket, connection) in state.connections where connection.isIdle.load(ordering: .sequentiallyConsistent) {
                shutdown(socket, Int32(SHUT_RDWR))
            }
        }
        shutdown(listener, Int32(SHUT_RDWR))
        let deadline = time(nil) + max(0, grace)
        while state.withLock({ !$0.sockets.isEmpty }), time(nil) < deadline { usleep(10_000) }
        state.withLock { state in for socket in state.sockets { shutdown(socket, Int32(SHUT_RDWR)) } }
    }

    // MARK: - Threads

    private func accept() {
        while true {
            let socket = cl_accept(listener, Int32(configuration.silenceSeconds), Int32(configuration.silenceSeconds))
            if isStopping.load(ordering: .sequentiallyConsistent) {
                if socket >= 0 { close(socket) }
                break
            }
            guard socket >= 0 else {
                // Out of descriptors, or a client that went at once: neither ends the door.
                if socket != -EINTR && socket != -ECONNABORTED { usleep(10_000) }
                continue
            }
            let isWelcome = state.withLock { state in
                guard state.sockets.count < configuration.maximumConnections else { return false }
                return state.sockets.insert(socket).inserted
            }
            guard isWelcome, DetachedThread.start({ [self] in serve(socket) }) else {
                refuse(socket, isKnown: isWelcome)
                continue
            }
        }
        close(listener)
    }

    private func refuse(_ socket: Int32, isKnown: Bool) {
        let text = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        if context == nil { _ = Glibc.send(socket, text, text.utf8.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)) }
        if isKnown { leave(socket) } else { close(socket) }
    }

    private func leave(_ socket: Int32) {
        // Closed under the lock: nobody may shut down a number that already means another socket.
        state.withLock { state in
            state.sockets.remove(socket)
            state.connections[socket] = nil
            close(socket)
        }
    }

    private func serve(_ socket: Int32) {
        defer { leave(socket) }
        var tls: UnsafeMutableRawPointer?
        if let context {
            guard let accepted = ctls_accept(context.raw, socket) else { return }
            tls = accepted
        }
        let connection = Connection(socket: socket, tls: tls)
        // Before `leave` closes the socket.
        defer { connection.hangUp() }
        state.withLock { $0.connections[socket] = connection }
        repeat {
            // First the mark, then the look: whoever stops the door does it the other way round.
            connection.isIdle.store(true, ordering: .sequentiallyConsistent)
        } while !isStopping.load(ordering: .sequentiallyConsistent) && exchange(on: connection)
    }

    // MARK: - One request

    /// Reads a request and answers it; false when the connection is to be closed.
    private func exchange(on connection: Connection) -> Bool {
        let requestID = nextRequestID()
        let head: HTTPHead
        do {
            guard let bytes = try connection.readHead(within: Self.headSeconds) else { return false }
            head = try HTTPHead(bytes)
        } catch {
            let writer = AnswerWriter(connection: connection, requestID: requestID, isHead: false, origin: nil, closes: true)
            writer.send(.failure(service.mapped(error), resource: "", requestID: requestID))
            connection.finishSending()
            return false
        }
        connection.isIdle.store(false, ordering: .sequentiallyConsistent)
        let body = BodyReader(connection, head)
        let resource = String(decoding: head.request.rawPath.prefix(1_024), as: UTF8.self)
        func failure(_ error: any Error) -> (S3Error, Answer) {
            let known = service.mapped(error)
            return (known, .failure(known, resource: resource, requestID: requestID))
        }
        var answer: Answer
        do { answer = try service.answer(head.request, body: body) } catch { answer = failure(error).1 }
        let closes = !head.keepsAlive || body.isHeldBack || isStopping.load(ordering: .relaxed)
        let writer = AnswerWriter(
            connection: connection, requestID: requestID, isHead: head.request.method == "HEAD", origin: head.request.header("origin"),
            closes: closes)
        if case .slow(let work) = answer.body {
            writer.sendSlow(answer, work) { error in
                let (known, shown) = failure(error)
                if case .bytes(let bytes) = shown.body { return (known, bytes) }
                return (known, [])
            }
        } else {
            writer.send(answer)
        }
        answer.body = .none
        return finish(connection, body, closes: closes)
    }

    /// Tells requests apart in logs and bug reports; no secret.
    private func nextRequestID() -> String {
        let number = requests.add(1, ordering: .relaxed).newValue
        let text = String(seed &+ number, radix: 16, uppercase: true)
        return String(repeating: "0", count: 16 - text.utf8.count) + text
    }

    private func finish(_ connection: Connection, _ body: BodyReader, closes: Bool) -> Bool {
        if connection.isBroken { return false }
        if body.isConsumed { return !closes }
        if closes {
            // The client may send the body all the same; what it hears must not be lost in a reset.
            connection.finishSending()
            if !body.isHeldBack { _ = body.drain(upTo: Self.drainBytes) }
            return false
        }
        return body.drain(upTo: Self.drainBytes)
    }
}

/// The certificate, for as long as the door lives.
private final class TLSContext: @unchecked Sendable {
    // OpenSSL's contexts may be used by many threads once they are made.
    let raw: UnsafeMutableRawPointer

    init?(_ configuration: DoorConfiguration) throws {
        guard configuration.certificate != nil || configuration.privateKey != nil else { return nil }
        guard let certificate = configuration.certificate, let key = configuration.privateKey else {
            throw RoostError(.invalid, "TLS needs both a certificate and a key: --s3-tls-cert and --s3-tls-key")
        }
        var reason = [CChar](repeating: 0, count: 256)
        guard let made = ctls_make_context(certificate, key, &reason, reason.count) else {
            let text = String(decoding: reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            throw RoostError(.invalid, "cannot use the certificate \(certificate) with the key \(key): \(text)")
        }
        raw = made
    }

    deinit { ctls_free_context(raw) }
}
