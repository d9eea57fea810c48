import Crypto

/// A URL presigned the old way, which is what boto3 and the AWS CLI still make for us-east-1 unless told otherwise.
///
/// Format: "Signing and Authenticating REST Requests" (signature version 2) of Amazon's S3 documentation. Only in queries:
/// version 2 in a header is refused.
package struct SignatureV2: Sendable {
    package let accessKey: String
    private let signature: String
    /// Seconds since 1970.
    private let expires: Int64

    /// Parameters that are part of what is signed.
    private static let signed: Set<String> = [
        "accelerate", "acl", "analytics", "cors", "delete", "inventory", "lifecycle", "location", "logging", "metrics", "notification",
        "object-lock", "partNumber", "policy", "replication", "requestPayment", "response-cache-control",
        "response-content-disposition", "response-content-encoding", "response-content-language", "response-content-type",
        "response-expires", "restore", "select", "select-type", "storageClass", "tagging", "torrent", "uploadId", "uploads", "versionId",
        "versioning", "versions", "website",
    ]

    /// Nil when the request is not signed this way.
    package init?(_ head: RequestHead) throws(S3Error) {
        guard let accessKey = head.parameter("AWSAccessKeyId") else { return nil }
        guard let signature = head.parameter("Signature"), let text = head.parameter("Expires"), let expires = HTTPHead.number(text) else {
            throw S3Error(.authorizationQueryParametersError, "a URL of signature version 2 needs AWSAccessKeyId, Signature and Expires")
        }
        self.accessKey = accessKey
        self.signature = signature
        self.expires = Int64(expires)
    }

    /// Throws unless the URL was signed with `secret` and still holds. `bucketInHost` is the bucket of a virtual host.
    package func verify(_ head: RequestHead, secret: String, bucketInHost: String?, nowSeconds: Int64) throws(S3Error) {
        guard nowSeconds <= expires else { throw S3Error(.accessDenied, "the URL has expired") }
        guard expires - nowSeconds <= Signature.longestExpiry + Signature.maximumSkew else {
            throw S3Error(.authorizationQueryParametersError, "Expires must be at most \(Signature.longestExpiry) seconds ahead")
        }
        let text = stringToSign(head, bucketInHost: bucketInHost)
        let code = HMAC<Insecure.SHA1>.authenticationCode(for: text, using: SymmetricKey(data: Array(secret.utf8)))
        guard Signature.isEqual(Base64.encode(Array(code)), signature) else {
            throw S3Error(.signatureDoesNotMatch, "the signature does not match: check the secret key and how the URL was signed")
        }
    }

    func stringToSign(_ head: RequestHead, bucketInHost: String?) -> [UInt8] {
        var text = "\(head.method)\n\(head.header("content-md5") ?? "")\n\(head.header("content-type") ?? "")\n\(expires)\n"
        for name in Set(head.headers.map(\.name)).filter({ $0.hasPrefix("x-amz-") }).sorted() {
            text += "\(name):\(head.header(name) ?? "")\n"
        }
        var bytes = Array(text.utf8)
        if let bucketInHost { bytes += "/\(bucketInHost)".utf8 }
        bytes += head.rawPath
        let pairs = head.parameters.filter { Self.signed.contains(String(decoding: $0.name, as: UTF8.self)) }
        let sorted = pairs.sorted { $0.name.lexicographicallyPrecedes($1.name) }
        for (index, pair) in sorted.enumerated() {
            bytes += index == 0 ? "?".utf8 : "&".utf8
            bytes += pair.name
            if !pair.value.isEmpty { bytes += [UInt8(ascii: "=")] + pair.value }
        }
        return bytes
    }
}
