import Resource

/// Buckets: listed, made, deleted, and the settings that clients probe for.
extension S3Service {
    func listBuckets(_ caller: Caller) -> Answer {
        let buckets = directory.buckets().filter { caller.credential.allows(volume: $0.id) }
        return .xml("ListAllMyBucketsResult") { xml in
            Self.owner(&xml, caller)
            xml.element("Buckets") { xml in
                for bucket in buckets {
                    xml.element("Bucket") { xml in
                        xml.text("Name", bucket.name)
                        xml.text("CreationDate", Timestamp.text(bucket.createdAt))
                        xml.text("BucketRegion", bucket.dataCenter)
                    }
                }
            }
        }
    }

    static func owner(_ xml: inout XMLWriter, _ caller: Caller, element: String = "Owner") {
        xml.element(element) { xml in
            xml.text("ID", "roost")
            xml.text("DisplayName", "roost")
        }
    }

    func createBucket(_ request: S3Request) throws -> Answer {
        try checkManages(request)
        let name = request.bucketName
        try Self.checkName(name)
        var hints: [String] = []
        if request.body.length != 0 {
            let document = try request.document(limit: 64 << 10)
            if let constraint = document["LocationConstraint"]?.text, !constraint.isEmpty { hints.append(constraint) }
        } else {
            var payload = try Payload(request.head, request.caller, request.body)
            _ = try payload.collect(limit: 0)
        }
        if let region = request.caller.seed?.signature.region { hints.append(region) }
        var size: Int?
        if let text = request.header("x-roost-size-gb") {
            guard let number = HTTPHead.number(text), number > 0 else {
                throw S3Error(.invalidArgument, "x-roost-size-gb must be a number of GiB")
            }
            size = number
        }
        guard directory.bucket(name) == nil else {
            throw S3Error(.bucketAlreadyOwnedByYou, "there is a network volume called '\(name)' already")
        }
        let bucket = try directory.create(name, hints: hints, sizeGb: size)
        return Answer(200, headers: [("Location", "/\(name)"), ("x-roost-volume-id", bucket.id)])
    }

    private func checkManages(_ request: S3Request) throws(S3Error) {
        guard request.caller.credential.managesBuckets, !request.caller.credential.isReadOnly else {
            throw S3Error(.accessDenied, "the access key may not make or delete buckets")
        }
    }

    /// Amazon's rules, as far as they keep a name from meaning something else in a path or a host.
    private static func checkName(_ name: String) throws(S3Error) {
        let bytes = Array(name.utf8)
        let isPlain = bytes.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."): true
            default: false
            }
        }
        func isEdge(_ byte: UInt8?) -> Bool { byte != UInt8(ascii: "-") && byte != UInt8(ascii: ".") }
        guard (3...63).contains(bytes.count), isPlain, isEdge(bytes.first), isEdge(bytes.last), !name.contains("..") else {
            throw S3Error(
                .invalidBucketName, "a bucket's name has 3 to 63 lower-case letters, digits, '-' and '.', and no dot or dash at its ends")
        }
    }

    func deleteBucket(_ request: S3Request) throws -> Answer {
        let bucket = try request.bucket()
        try checkManages(request)
        try gate.close(bucket.id)
        defer { gate.open(bucket.id) }
        let isEmpty = try tree(bucket).isEmpty
        guard isEmpty else { throw S3Error(.bucketNotEmpty, "the bucket is not empty") }
        try directory.delete(bucket)
        return Answer(204)
    }

    /// The truth about each setting: there is one owner, nothing public, no versions, no encryption of ours.
    func bucketSetting(_ name: String, _ request: S3Request) throws -> Answer {
        let bucket = try request.bucket()
        switch name {
        case "location": return .xml("LocationConstraint") { xml in xml.content(bucket.dataCenter) }
        case "versioning": return .xml("VersioningConfiguration") { _ in }
        case "acl": return Self.accessControl(request.caller)
        case "accelerate": return .xml("AccelerateConfiguration") { _ in }
        case "logging": return .xml("BucketLoggingStatus") { _ in }
        case "notification": return .xml("NotificationConfiguration") { _ in }
        case "requestPayment": return .xml("RequestPaymentConfiguration") { xml in xml.text("Payer", "BucketOwner") }
        case "policy", "policyStatus": throw S3Error(.noSuchBucketPolicy, "the bucket has no policy")
        case "cors": throw S3Error(.noSuchCORSConfiguration, "the bucket has no CORS configuration of its own: any origin may ask")
        case "lifecycle": throw S3Error(.noSuchLifecycleConfiguration, "the bucket has no lifecycle")
        case "website": throw S3Error(.noSuchWebsiteConfiguration, "the bucket is no website")
        case "tagging": throw S3Error(.noSuchTagSet, "the bucket has no tags")
        case "publicAccessBlock": throw S3Error(.noSuchPublicAccessBlock, "the bucket has no such configuration: nothing is public")
        case "ownershipControls": throw S3Error(.ownershipControlsNotFound, "the bucket has no ownership controls")
        case "object-lock": throw S3Error(.objectLockNotFound, "the bucket has no object lock")
        case "replication": throw S3Error(.replicationNotFound, "the bucket is not replicated")
        case "encryption": throw S3Error(.serverSideEncryptionNotFound, "the bucket has no encryption")
        default: throw S3Error(.notImplemented, "?\(name) is not served here")
        }
    }

    /// Private: the owner and nobody else.
    static func accessControl(_ caller: Caller) -> Answer {
        .xml("AccessControlPolicy") { xml in
            owner(&xml, caller)
            xml.element("AccessControlList") { xml in
                xml.element("Grant") { xml in
                    let type = " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\""
                    xml.element("Grantee", attributes: type) { xml in
                        xml.text("ID", "roost")
                        xml.text("DisplayName", "roost")
                    }
                    xml.text("Permission", "FULL_CONTROL")
                }
            }
        }
    }
}
