import Resource

/// Keeps the `s3Config` of a job sealed from its acceptance until the worker that got it has it.
///
/// In the job table it is `"s3Config":{"$sealed":"…"}`, first among the job's extra members. A client cannot put that
/// there: what it sends as `s3Config` is always sealed.
package struct JobSecrets: Sendable {
    private let box: SecretBox
    /// The fields of a named store as a handler expects them; nil where there is none.
    private let store: @Sendable (String) -> JSON?

    private static let opening = Array("\"s3Config\":{\"$sealed\":\"".utf8)
    private static let closing = Array("\"}".utf8)

    package init(box: SecretBox, store: @escaping @Sendable (String) -> JSON?) {
        self.box = box
        self.store = store
    }

    /// The payload with the request's `s3Config`, or else the endpoint's store, sealed for this job.
    func seal(_ request: JobRequest, job: String, standard: String?) throws -> JobPayload {
        var payload = request.payload
        var config = request.s3Config
        if let standard, config == nil {
            let reference: JSON = ["store": .string(standard)]
            config = reference.bytes
        }
        guard let config else { return payload }
        if let name = try Self.storeName(config), store(name) == nil {
            throw RoostError(.invalid, "field 's3Config.store': there is no object store '\(name.prefix(80))'")
        }
        // Sealed text is base64 and needs no escapes.
        let sealed = try box.seal(String(decoding: config, as: UTF8.self), purpose: job)
        let rest = payload.extra
        payload.extra = Self.opening + sealed.utf8 + Self.closing + (rest.isEmpty ? [] : [UInt8(ascii: ",")] + rest)
        return payload
    }

    /// The name in `{"store": NAME}`; nil for credentials.
    private static func storeName(_ config: [UInt8]) throws(RoostError) -> String? {
        guard let json = try? JSONReader.parse(config), let members = json.members else {
            throw RoostError(.invalid, "field 's3Config': must be a JSON object")
        }
        guard let value = members.last(where: { $0.key == "store" })?.value else { return nil }
        guard let name = value.string else { throw RoostError(.invalid, "field 's3Config.store': must be the name of an object store") }
        return name
    }

    /// The payload as the worker gets it. What cannot be opened any more is null: the handler then says what it misses.
    func open(_ payload: JobPayload, job: String) -> JobPayload {
        guard payload.extra.starts(with: Self.opening),
            let end = payload.extra[Self.opening.count...].firstRange(of: Self.closing)
        else { return payload }
        let sealed = String(decoding: payload.extra[Self.opening.count..<end.lowerBound], as: UTF8.self)
        var config = (try? box.open(sealed, purpose: job)).map { Array($0.utf8) }
        // A store is looked up now: a secret that was changed meanwhile counts at once.
        if let found = config, let name = (try? Self.storeName(found)) ?? nil { config = store(name)?.bytes }
        var opened = payload
        opened.extra = Array("\"s3Config\":".utf8) + (config ?? Array("null".utf8)) + payload.extra[end.upperBound...]
        return opened
    }
}
