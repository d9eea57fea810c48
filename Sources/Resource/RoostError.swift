/// The one error of everything below the HTTP border. The border maps `code` to a status.
package struct RoostError: Error, Sendable, CustomStringConvertible {
    package enum Code: Sendable, Equatable {
        /// The request is wrong: 400.
        case invalid
        /// No or unknown credentials: 401.
        case unauthorized
        /// Known credentials that may not do this: 403.
        case forbidden
        /// 404.
        case notFound
        /// Something else uses it, or it is in the wrong state: 409.
        case conflict
        /// 413.
        case tooLarge
        /// Ask again later: 429.
        case busy
        /// A disk is full: 507.
        case noSpace
        /// The server is stopping or a part of it does not answer: 503.
        case unavailable
        /// A fault of ours or of the machine: 500.
        case internalFault
    }

    package var code: Code
    /// Lower case; says what failed and, where there is one, the way out.
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { message }
}
