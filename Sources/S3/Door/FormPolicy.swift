import Resource

/// The policy of an upload form: what it may contain, and until when. Amazon's "POST Policy".
package struct FormPolicy {
    private enum Condition {
        case equals(String, String)
        case startsWith(String, String)
        case length(ClosedRange<Int64>)
    }

    private let expiration: String
    private let conditions: [Condition]

    private static func invalid(_ why: String) -> S3Error { S3Error(.invalidPolicyDocument, "the form's policy \(why)") }

    package init(base64: String) throws(S3Error) {
        guard let bytes = Base64.decode(base64), let json = try? JSONReader.parse(bytes), let expiration = json["expiration"]?.string,
            let list = json["conditions"]?.array
        else { throw Self.invalid("is not base64 of a JSON object with 'expiration' and 'conditions'") }
        self.expiration = expiration
        var conditions: [Condition] = []
        for item in list { conditions += try Self.conditions(item) }
        self.conditions = conditions
    }

    private static func conditions(_ item: JSON) throws(S3Error) -> [Condition] {
        if let members = item.members {
            return members.map { .equals($0.key.lowercased(), $0.value.string ?? $0.value.text) }
        }
        guard let words = item.array, words.count == 3, let kind = words[0].string?.lowercased() else {
            throw invalid("has a condition that is not one")
        }
        if kind == "content-length-range" {
            guard let low = words[1].int ?? words[1].string.flatMap({ Int($0) }),
                let high = words[2].int ?? words[2].string.flatMap({ Int($0) }),
                low <= high
            else { throw invalid("has a content-length-range that is none") }
            return [.length(Int64(low)...Int64(high))]
        }
        guard let field = words[1].string, field.hasPrefix("$"), let value = words[2].string, kind == "eq" || kind == "starts-with" else {
            throw invalid("has a condition that is not known")
        }
        let name = field.dropFirst().lowercased()
        return [kind == "eq" ? .equals(name, value) : .startsWith(name, value)]
    }

    /// Throws unless every field is as a condition wants it, and no field is without one.
    func check(_ fields: [String: String], now: Milliseconds) throws(S3Error) {
        // Both are RFC 3339 in UTC, so they compare as texts.
        guard expiration.hasSuffix("Z"), Timestamp.text(now).prefix(19) < expiration.prefix(19) else {
            throw S3Error(.accessDenied, "the form's policy has expired")
        }
        var covered: Set<String> = ["x-amz-signature", "policy", "file"]
        for condition in conditions {
            switch condition {
            case .equals(let name, let value):
                guard fields[name] == value else { throw Self.denied("\(name) must be '\(value)'") }
                covered.insert(name)
            case .startsWith(let name, let value):
                guard fields[name]?.hasPrefix(value) == true else { throw Self.denied("\(name) must begin with '\(value)'") }
                covered.insert(name)
            case .length: break
            }
        }
        if let extra = fields.keys.sorted().first(where: { !covered.contains($0) && !$0.hasPrefix("x-ignore-") }) {
            throw Self.denied("the policy has no condition for the field \(extra)")
        }
    }

    private static func denied(_ why: String) -> S3Error { S3Error(.accessDenied, "the form does not follow its policy: \(why)") }

    /// The size the policy allows.
    var sizes: ClosedRange<Int64> {
        conditions.reduce(0...Int64.max) { range, condition in
            if case .length(let wanted) = condition { return range.clamped(to: wanted) }
            return range
        }
    }
}
