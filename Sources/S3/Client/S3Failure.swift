/// What a store refused, in its own words.
package struct S3Failure: Error, Sendable, CustomStringConvertible {
    package var status: Int
    package var code: String
    package var message: String

    package init(status: Int, code: String, message: String) {
        (self.status, self.code, self.message) = (status, code, message)
    }

    package var description: String { message.isEmpty ? "\(code) (\(status))" : "\(code): \(message)" }

    /// Whether the same request may succeed later.
    var isPassing: Bool {
        if status == 501 || status == 507 { return false }
        return status >= 500 || status == 429 || wantsPatience || ["InternalError", "RequestTimeout", "OperationAborted"].contains(code)
    }

    /// Whether the store asks for fewer requests.
    var wantsPatience: Bool { status == 503 || status == 429 || ["SlowDown", "Throttling", "ServiceUnavailable"].contains(code) }
}
