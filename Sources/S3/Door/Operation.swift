/// Which of S3's operations a request is, by its method and subresource.
enum Operation: Equatable {
    case createBucket, headBucket, deleteBucket, listObjects, listObjectsV2, deleteObjects, listUploads
    /// A bucket's setting that can only be read: its name.
    case bucketSetting(String)
    case getObject, headObject, putObject, copyObject, deleteObject, getAttributes, getObjectACL
    case getTagging, putTagging, deleteTagging
    case createUpload, uploadPart, uploadPartCopy, listParts, completeUpload, abortUpload

    /// Query names that turn a request into another operation.
    private static let subresources: Set<String> = [
        "accelerate", "acl", "analytics", "attributes", "cors", "delete", "encryption", "intelligent-tiering", "inventory", "legal-hold",
        "lifecycle", "location", "logging", "metrics", "notification", "object-lock", "ownershipControls", "partNumber", "policy",
        "policyStatus", "publicAccessBlock", "replication", "requestPayment", "restore", "retention", "select", "session", "tagging",
        "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website", "append", "renameObject", "metadataTable",
    ]

    /// Settings of a bucket whose truth is one document or one error.
    static let settings: Set<String> = [
        "accelerate", "acl", "cors", "encryption", "lifecycle", "location", "logging", "notification", "object-lock", "ownershipControls",
        "policy", "policyStatus", "publicAccessBlock", "replication", "requestPayment", "tagging", "versioning", "website",
    ]

    init(_ head: RequestHead, hasKey: Bool) throws(S3Error) {
        let found = Set(head.parameters.compactMap { String(validating: $0.name, as: UTF8.self) }).intersection(Self.subresources)
        let operation = hasKey ? Self.object(head, found) : Self.bucket(head, found)
        guard let operation else {
            let what = found.isEmpty ? "" : " with ?\(found.sorted().joined(separator: "&"))"
            throw S3Error(.notImplemented, "\(head.method)\(what) of \(hasKey ? "an object" : "a bucket") is not served here")
        }
        self = operation
    }

    private static func bucket(_ head: RequestHead, _ found: Set<String>) -> Operation? {
        switch (head.method, found.first, found.count) {
        case ("GET", nil, _): return head.parameter("list-type") == "2" ? .listObjectsV2 : .listObjects
        case ("GET", "uploads", 1): return .listUploads
        case ("GET", .some(let name), 1) where settings.contains(name): return .bucketSetting(name)
        case ("HEAD", nil, _): return .headBucket
        case ("PUT", nil, _): return .createBucket
        case ("DELETE", nil, _): return .deleteBucket
        case ("POST", "delete", 1): return .deleteObjects
        default: return nil
        }
    }

    private static func object(_ head: RequestHead, _ found: Set<String>) -> Operation? {
        // There are no versions: the null version is the object.
        var found = found
        if found.contains("versionId"), head.parameter("versionId") == "null" { found.remove("versionId") }
        let copies = head.header("x-amz-copy-source") != nil
        switch (head.method, found) {
        case ("GET", []), ("GET", ["partNumber"]): return .getObject
        case ("HEAD", []), ("HEAD", ["partNumber"]): return .headObject
        case ("GET", ["attributes"]): return .getAttributes
        case ("GET", ["acl"]): return .getObjectACL
        case ("GET", ["tagging"]): return .getTagging
        case ("GET", ["uploadId"]): return .listParts
        case ("PUT", []): return copies ? .copyObject : .putObject
        case ("PUT", ["tagging"]): return .putTagging
        case ("PUT", ["uploadId", "partNumber"]): return copies ? .uploadPartCopy : .uploadPart
        case ("DELETE", []): return .deleteObject
        case ("DELETE", ["tagging"]): return .deleteTagging
        case ("DELETE", ["uploadId"]): return .abortUpload
        case ("POST", ["uploads"]): return .createUpload
        case ("POST", ["uploadId"]): return .completeUpload
        default: return nil
        }
    }
}

extension S3Service {
    func perform(_ operation: Operation, _ request: S3Request) throws -> Answer {
        switch operation {
        case .createBucket: try createBucket(request)
        case .headBucket: Answer(200, headers: [("x-amz-bucket-region", try request.bucket().dataCenter)])
        case .deleteBucket: try deleteBucket(request)
        case .bucketSetting(let name): try bucketSetting(name, request)
        case .listObjects: try listObjects(request)
        case .listObjectsV2: try listObjectsV2(request)
        case .listUploads: try listUploads(request)
        case .deleteObjects: try deleteObjects(request)
        case .getObject, .headObject: try getObject(request, isHead: operation == .headObject)
        case .putObject: try putObject(request)
        case .copyObject: try copyObject(request)
        case .deleteObject: try deleteObject(request)
        case .getAttributes: try getAttributes(request)
        case .getObjectACL: try getObjectACL(request)
        case .getTagging: try getTagging(request)
        case .putTagging: try putTagging(request)
        case .deleteTagging: try deleteTagging(request)
        case .createUpload: try createUpload(request)
        case .uploadPart: try uploadPart(request)
        case .uploadPartCopy: try uploadPartCopy(request)
        case .listParts: try listParts(request)
        case .completeUpload: try completeUpload(request)
        case .abortUpload: try abortUpload(request)
        }
    }
}
