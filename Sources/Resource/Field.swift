/// One field of a management request: the same table checks requests and describes them in `/v1/openapi.json`.
package struct Field: Sendable {
    package enum Kind: Sendable {
        case integer(ClosedRange<Int>)
        /// Longest text in bytes.
        case text(Int)
        /// At most so many strings.
        case texts(Int)
        case choice([String])
        case boolean
        /// At most so many members, all strings.
        case map(Int)
    }

    package var name: String
    package var kind: Kind
    package var standard: JSON?
    package var isRequired: Bool
    /// Whether a PATCH may change it.
    package var isMutable: Bool
    package var summary: String

    package init(
        _ name: String, _ kind: Kind, default standard: JSON? = nil, required: Bool = false, mutable: Bool = true,
        _ summary: String
    ) {
        self.name = name
        self.kind = kind
        self.standard = standard
        self.isRequired = required
        self.isMutable = mutable
        self.summary = summary
    }

    /// Throws an `.invalid` error naming field, value and what is allowed.
    package func check(_ value: JSON) throws(RoostError) {
        guard accepts(value) else {
            let shown = value.text
            let short = shown.count > 80 ? String(shown.prefix(80)) + "…" : shown
            throw RoostError(.invalid, "field '\(name)': got \(short); allowed: \(allowed)")
        }
    }

    private func accepts(_ value: JSON) -> Bool {
        switch (kind, value) {
        case (.integer(let range), .number): value.int.map(range.contains) ?? false
        case (.text(let limit), .string(let text)):
            text.utf8.count <= limit && (!isRequired || !text.isEmpty) && !text.utf8.contains(0)
        case (.texts(let limit), .array(let values)):
            values.count <= limit && values.allSatisfy { $0.string.map { !$0.isEmpty && !$0.utf8.contains(0) } ?? false }
        case (.choice(let choices), .string(let text)): choices.contains(text)
        case (.boolean, .bool): true
        case (.map(let limit), .object(let members)):
            members.count <= limit
                && members.allSatisfy { member in
                    !member.key.isEmpty && !member.key.utf8.contains(where: { $0 == 0 || $0 == UInt8(ascii: "=") })
                        && member.value.string.map { !$0.utf8.contains(0) } ?? false
                }
        default: false
        }
    }

    package var allowed: String {
        switch kind {
        case .integer(let range): "an integer from \(range.lowerBound) to \(range.upperBound)"
        case .text(let limit): "a string of \(isRequired ? 1 : 0) to \(limit) bytes"
        case .texts(let limit): "an array of at most \(limit) non-empty strings"
        case .choice(let choices): "one of \(choices.joined(separator: ", "))"
        case .boolean: "true or false"
        case .map(let limit): "an object of at most \(limit) strings, with no '=' in a name"
        }
    }

    /// The field as an OpenAPI 3.1 schema.
    package var schema: JSON {
        var pairs: [JSON.Member]
        switch kind {
        case .integer(let range):
            pairs = [
                .init("type", "integer"), .init("minimum", .int(range.lowerBound)),
                .init("maximum", .int(range.upperBound)),
            ]
        case .text(let limit):
            pairs = [.init("type", "string"), .init("minLength", .int(isRequired ? 1 : 0)), .init("maxLength", .int(limit))]
        case .texts(let limit):
            let item: JSON = ["type": "string", "minLength": 1]
            pairs = [.init("type", "array"), .init("items", item), .init("maxItems", .int(limit))]
        case .choice(let choices): pairs = [.init("type", "string"), .init("enum", .strings(choices))]
        case .boolean: pairs = [.init("type", "boolean")]
        case .map(let limit):
            let value: JSON = ["type": "string"]
            pairs = [.init("type", "object"), .init("additionalProperties", value), .init("maxProperties", .int(limit))]
        }
        pairs.append(.init("description", .string(summary)))
        if let standard { pairs.append(.init("default", standard)) }
        return .object(pairs)
    }
}

/// The checked fields of one request. `null` counts as absent.
package struct FieldValues: Sendable {
    private var values: [String: JSON] = [:]

    /// Checks `body` against `fields`. For a create, required fields must be there and defaults are filled in; for an
    /// update, absent fields stay absent and fields that cannot change are refused. Unknown fields are ignored:
    /// RunPod's clients send more than any one version documents.
    package init(_ body: JSON, fields: [Field], isUpdate: Bool) throws(RoostError) {
        guard case .object(let members) = body else {
            throw RoostError(.invalid, "the request body must be a JSON object, got \(body.kind)")
        }
        for field in fields {
            guard let value = members.last(where: { $0.key == field.name })?.value, value != .null else {
                if field.isRequired && !isUpdate {
                    throw RoostError(.invalid, "field '\(field.name)' is required: \(field.allowed)")
                }
                if !isUpdate { values[field.name] = field.standard }
                continue
            }
            if isUpdate && !field.isMutable {
                throw RoostError(.invalid, "field '\(field.name)' cannot be changed after creation")
            }
            try field.check(value)
            values[field.name] = value
        }
    }

    package subscript(name: String) -> JSON? { values[name] }
    package func int(_ name: String) -> Int? { values[name]?.int }
    package func string(_ name: String) -> String? { values[name]?.string }
    package func bool(_ name: String) -> Bool? { values[name]?.bool }
    package func strings(_ name: String) -> [String]? { values[name]?.array?.compactMap(\.string) }

    package func map(_ name: String) -> [String: String]? {
        guard let members = values[name]?.members else { return nil }
        return Dictionary(members.map { ($0.key, $0.value.string ?? "") }, uniquingKeysWith: { $1 })
    }
}
