/// An error of the S3 door, as clients know it: a code, a status, a sentence.
package struct S3Error: Error, Sendable, Equatable {
    /// The codes of Amazon's published list that this door answers, by their wire names.
    package enum Code: String, Sendable, CaseIterable {
        case accessControlListNotSupported = "AccessControlListNotSupported"
        case accessDenied = "AccessDenied"
        case authorizationHeaderMalformed = "AuthorizationHeaderMalformed"
        case authorizationQueryParametersError = "AuthorizationQueryParametersError"
        case badDigest = "BadDigest"
        case bucketAlreadyOwnedByYou = "BucketAlreadyOwnedByYou"
        case bucketNotEmpty = "BucketNotEmpty"
        case entityTooLarge = "EntityTooLarge"
        case incompleteBody = "IncompleteBody"
        /// Not Amazon's: the volume, or the disk beneath it, is full.
        case insufficientStorage = "InsufficientStorage"
        case internalError = "InternalError"
        case invalidAccessKeyID = "InvalidAccessKeyId"
        case invalidArgument = "InvalidArgument"
        case invalidBucketName = "InvalidBucketName"
        case invalidDigest = "InvalidDigest"
        case invalidPart = "InvalidPart"
        case invalidPartNumber = "InvalidPartNumber"
        case invalidPartOrder = "InvalidPartOrder"
        case invalidPolicyDocument = "InvalidPolicyDocument"
        case invalidRange = "InvalidRange"
        case invalidRequest = "InvalidRequest"
        case invalidStorageClass = "InvalidStorageClass"
        case invalidTag = "InvalidTag"
        /// Not Amazon's: a file stands where the key needs a directory, or the reverse.
        case keyConflict = "KeyConflict"
        case keyTooLong = "KeyTooLongError"
        case malformedPOSTRequest = "MalformedPOSTRequest"
        case malformedXML = "MalformedXML"
        case metadataTooLarge = "MetadataTooLarge"
        case methodNotAllowed = "MethodNotAllowed"
        case missingContentLength = "MissingContentLength"
        case noSuchBucket = "NoSuchBucket"
        case noSuchBucketPolicy = "NoSuchBucketPolicy"
        case noSuchCORSConfiguration = "NoSuchCORSConfiguration"
        case noSuchKey = "NoSuchKey"
        case noSuchLifecycleConfiguration = "NoSuchLifecycleConfiguration"
        case noSuchPublicAccessBlock = "NoSuchPublicAccessBlockConfiguration"
        case noSuchTagSet = "NoSuchTagSet"
        case noSuchUpload = "NoSuchUpload"
        case noSuchWebsiteConfiguration = "NoSuchWebsiteConfiguration"
        case notImplemented = "NotImplemented"
        case objectLockNotFound = "ObjectLockConfigurationNotFoundError"
        case operationAborted = "OperationAborted"
        case ownershipControlsNotFound = "OwnershipControlsNotFoundError"
        case preconditionFailed = "PreconditionFailed"
        case replicationNotFound = "ReplicationConfigurationNotFoundError"
        case requestTimeTooSkewed = "RequestTimeTooSkewed"
        case requestTimeout = "RequestTimeout"
        case serverSideEncryptionNotFound = "ServerSideEncryptionConfigurationNotFoundError"
        case serviceUnavailable = "ServiceUnavailable"
        case signatureDoesNotMatch = "SignatureDoesNotMatch"
        case slowDown = "SlowDown"
        case contentSHA256Mismatch = "XAmzContentSHA256Mismatch"
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
        case .noSuchBucket, .noSuchBucketPolicy, .noSuchCORSConfiguration, .noSuchKey, .noSuchLifecycleConfiguration,
            .noSuchPublicAccessBlock, .noSuchTagSet, .noSuchUpload, .noSuchWebsiteConfiguration, .objectLockNotFound,
            .ownershipControlsNotFound, .replicationNotFound, .serverSideEncryptionNotFound:
            404
        case .methodNotAllowed: 405
        case .bucketAlreadyOwnedByYou, .bucketNotEmpty, .keyConflict, .operationAborted: 409
        case .missingContentLength: 411
        case .preconditionFailed: 412
        case .invalidRange: 416
        case .internalError: 500
        case .notImplemented: 501
        case .serviceUnavailable, .slowDown: 503
        case .insufficientStorage: 507
        case .accessControlListNotSupported, .authorizationHeaderMalformed, .authorizationQueryParametersError, .badDigest,
            .contentSHA256Mismatch, .entityTooLarge, .incompleteBody, .invalidArgument, .invalidBucketName,
            .invalidDigest, .invalidPart, .invalidPartNumber, .invalidPartOrder, .invalidPolicyDocument, .invalidRequest,
            .invalidStorageClass, .invalidTag, .keyTooLong, .malformedPOSTRequest, .malformedXML, .metadataTooLarge, .requestTimeout:
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
