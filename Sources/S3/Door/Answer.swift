import Glibc

/// What a request is answered.
struct Answer {
    enum Body {
        case none
        case bytes([UInt8])
        case file(Descriptor, ByteRange)
        /// Computed while the client is kept waiting: `pause` is called between steps of the work, and after a while the
        /// answer begins with its XML declaration and grows by white space, so that nobody times out.
        case slow((_ pause: () -> Void) throws -> [UInt8])
    }

    var status: Int
    var headers: [(name: String, value: String)] = []
    var body = Body.none
    /// What HEAD says of a body it does not send.
    var announcedLength: Int64?

    init(_ status: Int, headers: [(name: String, value: String)] = [], body: Body = .none) {
        (self.status, self.headers, self.body) = (status, headers, body)
    }

    static func xml(_ document: [UInt8], status: Int = 200) -> Answer {
        Answer(status, headers: [("Content-Type", "application/xml")], body: .bytes(document))
    }

    /// A document with `body` inside its root.
    static func xml(_ root: String, capacity: Int = 1_024, _ body: (inout XMLWriter) -> Void) -> Answer {
        var xml = XMLWriter(capacity: capacity)
        xml.element(root, attributes: XMLWriter.namespace, body)
        return .xml(xml.bytes)
    }

    static func failure(_ error: S3Error, resource: String, requestID: String) -> Answer {
        .xml(error.document(resource: resource, requestID: requestID), status: error.status)
    }

    static func reason(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 204: "No Content"
        case 206: "Partial Content"
        case 303: "See Other"
        case 304: "Not Modified"
        case 400: "Bad Request"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 409: "Conflict"
        case 411: "Length Required"
        case 412: "Precondition Failed"
        case 416: "Range Not Satisfiable"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 503: "Service Unavailable"
        case 507: "Insufficient Storage"
        default: "Status"
        }
    }
}

/// Sends answers on a connection.
struct AnswerWriter {
    let connection: Connection
    let requestID: String
    let isHead: Bool
    /// The `Origin` of a browser's request.
    let origin: String?
    let closes: Bool

    /// Seconds after which a slow answer begins, and between its spaces.
    private static let patience = 5

    func send(_ answer: Answer) {
        switch answer.body {
        case .none: connection.send(head(answer, length: answer.announcedLength ?? 0))
        case .bytes(let bytes): connection.send(head(answer, length: Int64(bytes.count)) + (isHead ? [] : bytes))
        case .file(let file, let range):
            let head = head(answer, length: range.length)
            if isHead { connection.send(head) } else { connection.send(head, file: file.raw, range) }
        case .slow: break
        }
    }

    /// Runs slow work. An error after the answer began goes into its body, as it does at Amazon.
    func sendSlow(
        _ answer: Answer, _ work: (() -> Void) throws -> [UInt8], failure: (any Error) -> (S3Error, [UInt8])
    ) {
        var beganAt: Int?
        var last = time(nil)
        let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        func pause() {
            guard time(nil) - last >= Self.patience else { return }
            last = time(nil)
            if beganAt == nil {
                beganAt = last
                connection.send(head(answer, length: nil) + Self.chunk(Array(declaration.utf8)))
            } else {
                connection.send(Self.chunk([UInt8(ascii: " ")]))
            }
        }
        var document: [UInt8]
        var status = answer.status
        do { document = try work(pause) } catch {
            let (error, bytes) = failure(error)
            (status, document) = (error.status, bytes)
        }
        guard beganAt != nil else {
            var whole = answer
            (whole.status, whole.body) = (status, .bytes(document))
            return send(whole)
        }
        if document.starts(with: declaration.utf8) { document.removeFirst(declaration.utf8.count) }
        connection.send(Self.chunk(document) + Array("0\r\n\r\n".utf8))
    }

    private static func chunk(_ bytes: [UInt8]) -> [UInt8] {
        Array((String(bytes.count, radix: 16) + "\r\n").utf8) + bytes + Array("\r\n".utf8)
    }

    private func head(_ answer: Answer, length: Int64?) -> [UInt8] {
        var text = "HTTP/1.1 \(answer.status) \(Answer.reason(answer.status))\r\n"
        text += "Date: \(HTTPDate.text(Int64(time(nil))))\r\nServer: Roost\r\nx-amz-request-id: \(requestID)\r\n"
        if let length {
            // RFC 9110: these two have no body, so no length either.
            if answer.status != 204 && answer.status != 304 { text += "Content-Length: \(length)\r\n" }
        } else {
            text += "Transfer-Encoding: chunked\r\n"
        }
        for (name, value) in answer.headers { text += "\(name): \(value)\r\n" }
        if origin != nil {
            text += "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: \(CORS.exposed)\r\n"
        }
        if closes { text += "Connection: close\r\n" }
        return Array((text + "\r\n").utf8)
    }
}

/// What browsers ask before they send. Access is by signature, never by cookies, so any page may ask.
enum CORS {
    static let exposed = "ETag, Content-Range, x-amz-request-id, x-amz-checksum-crc32, x-amz-checksum-crc64nvme, x-amz-checksum-sha256"

    static func preflight(_ head: RequestHead) throws(S3Error) -> Answer {
        guard head.header("origin") != nil, let method = head.header("access-control-request-method"),
            ["GET", "HEAD", "PUT", "POST", "DELETE"].contains(method)
        else { throw S3Error(.invalidRequest, "OPTIONS is for CORS: it needs Origin and Access-Control-Request-Method") }
        var headers = [
            ("Access-Control-Allow-Methods", "GET, HEAD, PUT, POST, DELETE"), ("Access-Control-Max-Age", "3600"),
            ("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"),
        ]
        if let asked = head.header("access-control-request-headers") { headers.append(("Access-Control-Allow-Headers", asked)) }
        return Answer(200, headers: headers.map { (name: $0.0, value: $0.1) })
    }
}
