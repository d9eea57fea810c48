/// The head of an S3 request, raw: keys are decoded here and nowhere else, exactly once.
package struct RequestHead: Sendable {
    package struct Parameter: Sendable, Equatable {
        package var name: [UInt8]
        package var value: [UInt8]
    }

    package let method: String
    /// Before the `?`, still encoded.
    package let rawPath: [UInt8]
    /// The query, decoded, in the order it came. `?acl` is a parameter with an empty value.
    package let parameters: [Parameter]
    /// Names in lower case, in the order they came.
    package let headers: [(name: String, value: String)]

    package init(method: String, target: String, headers: [(name: String, value: String)]) throws(S3Error) {
        let bytes = Array(target.utf8)
        let question = bytes.firstIndex(of: UInt8(ascii: "?"))
        self.method = method
        rawPath = Array(bytes[..<(question ?? bytes.endIndex)])
        var parameters: [Parameter] = []
        if let question {
            for pair in bytes[(question + 1)...].split(separator: UInt8(ascii: "&")) {
                let equals = pair.firstIndex(of: UInt8(ascii: "="))
                guard let name = PercentEncoding.decode(pair[..<(equals ?? pair.endIndex)]),
                    let value = PercentEncoding.decode(equals.map { pair[($0 + 1)...] } ?? [])
                else { throw S3Error(.invalidArgument, "the query is not percent-encoded properly") }
                parameters.append(Parameter(name: name, value: value))
            }
        }
        self.parameters = parameters
        self.headers = headers.map { ($0.name.lowercased(), $0.value) }
        guard PercentEncoding.decode(rawPath) != nil else {
            throw S3Error(.invalidArgument, "the path is not percent-encoded properly")
        }
    }

    /// The value of a header; several are joined as HTTP has it.
    package func header(_ name: String) -> String? {
        var found: String?
        for header in headers where header.name == name { found = found.map { $0 + "," + header.value } ?? header.value }
        return found
    }

    /// Whether the query has a parameter of this name, with or without a value.
    package func has(_ name: String) -> Bool { parameters.contains { $0.name.elementsEqual(name.utf8) } }

    /// The value of a query parameter, if it is UTF-8.
    package func parameter(_ name: String) -> String? {
        parameters.first { $0.name.elementsEqual(name.utf8) }.flatMap { String(validating: $0.value, as: UTF8.self) }
    }
}
