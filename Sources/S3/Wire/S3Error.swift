/// An error of the S3 door, as clients know it: a code, a status, a sentence.
package struct S3Error: Error, Sendable, Equatable {
    /// The codes of Amazon's published list that this door answers, by their wire names.
    package enum Code: String, Sendable, CaseIterable {
        case accessDenied = "AccessDenied"
        case authorizationHeaderMalformed = "AuthorizationHeaderMalformed"
        case authorizationQueryParametersError = "AuthorizationQueryParametersError"
        case badDigest = "BadDigest"
        case entityTooLarge = "EntityTooLarge"
        case incompleteBody = "IncompleteBody"
        case internalError = "InternalError"
        case invalidAccessKeyID = "InvalidAccessKeyId"
        case invalidArgument = "InvalidArgument"
        case invalidRequest = "InvalidRequest"
        case keyTooLong = "KeyTooLongError"
        case malformedXML = "MalformedXML"
        case notImplemented = "NotImplemented"
        case requestTimeTooSkewed = "RequestTimeTooSkewed"
        case signatureDoesNotMatch = "SignatureDoesNotMatch"
    }

    package var code: Code
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The HTTP status of the code.
    package var status: Int {
        switch code {
        case .accessDenied, .invalidAccessKeyID, .requestTimeTooSkewed, .signatureDoesNotMatch: 403
        case .internalError: 500
        case .notImplemented: 501
        case .authorizationHeaderMalformed, .authorizationQueryParametersError, .badDigest, .entityTooLarge, .incompleteBody,
            .invalidArgument, .invalidRequest, .keyTooLong, .malformedXML:
            400
        }
    }

    /// The `<Error>` document. A HEAD request gets its status alone.
    package func document(resource: String, requestID: String) -> [UInt8] {
        var xml = XMLWriter()
        xml.element("Error") { xml in
            xml.text("Code", code.rawValue)
            xml.text("Message", message)
            xml.text("Resource", resource)
            xml.text("RequestId", requestID)
        }
        return xml.bytes
    }
}
