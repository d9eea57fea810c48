import Crypto
import Disk
import Glibc

/// Who sent a request, once the signature was found right.
struct Caller: Sendable {
    /// What the signatures of a body's chunks begin with.
    struct Seed: Sendable {
        var signature: Signature
        var key: SymmetricKey
    }

    var credential: Credential
    var payload: PayloadMode
    /// Nil where the signature is none of version 4.
    var seed: Seed?
}

/// Checks signatures. Derived keys are kept: four hashes fewer for each request.
final class Authenticator: Sendable {
    private let directory: any BucketDirectory
    private let keys = Locked<[String: SymmetricKey]>([:])

    init(_ directory: any BucketDirectory) { self.directory = directory }

    func caller(_ head: RequestHead, bucketInHost: String?) throws(S3Error) -> Caller {
        guard let signature = try Signature(head) else {
            guard let old = try SignatureV2(head) else {
                throw S3Error(.accessDenied, "the request is not signed: there is no anonymous access")
            }
            let credential = try credential(old.accessKey)
            try old.verify(head, secret: credential.secret, bucketInHost: bucketInHost, nowSeconds: Int64(time(nil)))
            return Caller(credential: credential, payload: .unsigned)
        }
        let text = try Self.payloadText(head, signature)
        let payload = try PayloadMode(text)
        let credential = try credential(signature.accessKey)
        let key = signingKey(signature, credential.secret)
        try signature.verify(head, key: key, payloadHash: text, nowSeconds: Int64(time(nil)))
        return Caller(credential: credential, payload: payload, seed: .init(signature: signature, key: key))
    }

    /// A form's policy, which is what its signature signs.
    func caller(form signature: Signature, policy: String) throws(S3Error) -> Caller {
        let credential = try credential(signature.accessKey)
        let key = signingKey(signature, credential.secret)
        guard Signature.isEqual(Signature.sign(policy, key: key), signature.hex) else {
            throw S3Error(.signatureDoesNotMatch, "the signature of the form's policy does not match")
        }
        return Caller(credential: credential, payload: .unsigned)
    }

    private func credential(_ accessKey: String) throws(S3Error) -> Credential {
        guard let credential = directory.credential(accessKey) else {
            throw S3Error(.invalidAccessKeyID, "there is no such access key; make one with 'roost s3key create'")
        }
        if let expiry = credential.expiresAt, Int64(time(nil)) * 1_000 >= expiry {
            throw S3Error(.accessDenied, "the access key has expired")
        }
        return credential
    }

    private static func payloadText(_ head: RequestHead, _ signature: Signature) throws(S3Error) -> String {
        let header = head.header("x-amz-content-sha256")
        if signature.expires != nil {
            return head.parameter("X-Amz-Content-Sha256") ?? (signature.signedHeaders.contains("x-amz-content-sha256") ? header : nil)
                ?? "UNSIGNED-PAYLOAD"
        }
        // Plain curl leaves it out; without a body there is only one thing it can be.
        if header == nil, ["0", nil].contains(head.header("content-length")), head.header("transfer-encoding") == nil {
            return Signature.emptyHash
        }
        guard let header else { throw S3Error(.invalidRequest, "the header x-amz-content-sha256 is missing") }
        return header
    }

    private func signingKey(_ signature: Signature, _ secret: String) -> SymmetricKey {
        let name = "\(signature.accessKey)\n\(secret)\n\(signature.day)\n\(signature.region)"
        if let known = keys.withLock({ $0[name] }) { return known }
        let key = signature.signingKey(secret: secret)
        keys.withLock { keys in
            // Days pass and regions are made up: a full table starts anew.
            if keys.count >= 1_024 { keys.removeAll() }
            keys[name] = key
        }
        return key
    }
}
