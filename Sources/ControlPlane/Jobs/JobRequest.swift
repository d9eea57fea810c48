import Resource

/// The body of `/run` and `/runsync`, checked. Input and extra members stay the bytes they came in.
package struct JobRequest: Sendable {
    package var payload: JobPayload
    /// The value of `s3Config` as it came: it is sealed before anything is kept. Nil when absent or null.
    package var s3Config: [UInt8]?
    package var webhook: String?
    package var executionTimeout: Milliseconds?
    package var timeToLive: Milliseconds
    package var isLowPriority: Bool

    package init(_ bytes: [UInt8]) throws(RoostError) {
        let members: [JSONReader.RawMember]
        do throws(JSONReader.Failure) { members = try JSONReader.members(of: bytes) } catch {
            throw RoostError(.invalid, error.description)
        }
        guard let input = members.last(where: { $0.key == "input" }) else {
            throw RoostError(.invalid, "field 'input' is required: a JSON object")
        }
        guard bytes[input.value].first == UInt8(ascii: "{") else {
            throw RoostError(.invalid, "field 'input': must be a JSON object")
        }
        payload = JobPayload(input: Array(bytes[input.value]), extra: Self.extra(members, of: bytes))
        s3Config = members.last { $0.key == "s3Config" }.map { Array(bytes[$0.value]) }
        if s3Config == Array("null".utf8) { s3Config = nil }
        webhook = try Self.webhook(Self.value("webhook", members, bytes))
        let policy = Self.value("policy", members, bytes) ?? .object([])
        guard case .object = policy else { throw RoostError(.invalid, "field 'policy': must be a JSON object") }
        executionTimeout = try Self.duration("executionTimeout", policy, Limits.executionTimeoutRange)
        timeToLive = try Self.duration("ttl", policy, Limits.timeToLiveRange) ?? Limits.timeToLive
        guard policy["lowPriority"] == nil || policy["lowPriority"] == .null || policy["lowPriority"]?.bool != nil else {
            throw RoostError(.invalid, "field 'policy.lowPriority': must be true or false")
        }
        isLowPriority = policy["lowPriority"]?.bool ?? false
    }

    /// Everything but input, id and the secrets goes to the worker as it came.
    private static func extra(_ members: [JSONReader.RawMember], of bytes: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        for member in members where !["input", "id", "s3Config"].contains(member.key) {
            if !out.isEmpty { out.append(UInt8(ascii: ",")) }
            JSON.quote(member.key, to: &out)
            out.append(UInt8(ascii: ":"))
            out += bytes[member.value]
        }
        return out
    }

    private static func value(_ key: String, _ members: [JSONReader.RawMember], _ bytes: [UInt8]) -> JSON? {
        guard let member = members.last(where: { $0.key == key }) else { return nil }
        // The text was checked as a whole, so its parts parse.
        let value = try? JSONReader.parse(Array(bytes[member.value]))
        return value == .null ? nil : value
    }

    private static func webhook(_ value: JSON?) throws(RoostError) -> String? {
        guard let value else { return nil }
        guard let url = value.string, url.utf8.count <= 2_048,
            url.hasPrefix("http://") || url.hasPrefix("https://"), !url.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F })
        else { throw RoostError(.invalid, "field 'webhook': must be an http or https URL of at most 2048 bytes") }
        return url
    }

    private static func duration(
        _ key: String, _ policy: JSON, _ range: ClosedRange<Milliseconds>
    ) throws(RoostError) -> Milliseconds? {
        guard let value = policy[key], value != .null else { return nil }
        guard let number = value.int, range.contains(Int64(number)) else {
            let allowed = "an integer from \(range.lowerBound) to \(range.upperBound) (milliseconds)"
            throw RoostError(.invalid, "field 'policy.\(key)': got \(value.text.prefix(80)); allowed: \(allowed)")
        }
        return Int64(number)
    }
}

/// What a worker posts to `job-done`: the raw JSON it sent, whatever content type it claims.
package struct WorkerReport: Sendable, Equatable {
    package var output: [UInt8]?
    package var error: [UInt8]?
    package var isProgress: Bool
    /// `stopPod`: the worker wants to be replaced.
    package var wantsReplacement: Bool

    /// A report whose output lies elsewhere, with the other members as raw JSON.
    init(output: [UInt8]?, members: [String: [UInt8]]) {
        self.output = output
        error = members["error"]
        isProgress = false
        wantsReplacement = members["stopPod"] == Array("true".utf8)
    }

    /// Nil when the body is no JSON object.
    package init?(_ body: [UInt8]) {
        var bytes = body
        guard let members = try? JSONReader.lenientMembers(of: &bytes) else { return nil }
        func raw(_ key: String) -> [UInt8]? { members.last { $0.key == key }.map { Array(bytes[$0.value]) } }
        output = raw("output")
        error = raw("error")
        isProgress = raw("status") == Array("\"IN_PROGRESS\"".utf8)
        wantsReplacement = raw("stopPod") == Array("true".utf8)
    }
}
