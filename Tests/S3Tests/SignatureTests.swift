import S3
import Testing

/// The worked examples of Amazon's S3 API reference, "Authenticating Requests (AWS Signature Version 4)".
@Suite struct SignatureTests {
    private let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    private let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    private let host = "examplebucket.s3.amazonaws.com"
    /// 2013-05-24T00:00:00Z
    private let now: Int64 = 1_369_353_600

    private func head(
        _ method: String, _ target: String, _ headers: [(String, String)], signed: String, signature: String
    ) throws -> RequestHead {
        let authorization =
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=\(signed),Signature=\(signature)"
        let all = [("Host", host), ("x-amz-date", "20130524T000000Z"), ("Authorization", authorization)] + headers
        return try RequestHead(method: method, target: target, headers: all.map { (name: $0.0, value: $0.1) })
    }

    private func verify(_ head: RequestHead, payload: String? = nil, at time: Int64? = nil, secret: String? = nil) throws {
        let signature = try #require(try Signature(head))
        try signature.verify(head, secret: secret ?? self.secret, payloadHash: payload ?? empty, nowSeconds: time ?? now)
    }

    private func getObject(signature: String = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41") throws -> RequestHead {
        try head(
            "GET", "/test.txt", [("Range", "bytes=0-9"), ("x-amz-content-sha256", empty)],
            signed: "host;range;x-amz-content-sha256;x-amz-date", signature: signature)
    }

    @Test func theGetObjectExample() throws { try verify(try getObject()) }

    @Test func thePutObjectExample() throws {
        let payload = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
        let put = try head(
            "PUT", "/test%24file.text",
            [("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY"), ("x-amz-content-sha256", payload)],
            signed: "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            signature: "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")
        try verify(put, payload: payload)
    }

    @Test func theExamplesWithQueries() throws {
        let headers = [("x-amz-content-sha256", empty)]
        let signed = "host;x-amz-content-sha256;x-amz-date"
        try verify(
            try head(
                "GET", "/?lifecycle", headers, signed: signed,
                signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"))
        try verify(
            try head(
                "GET", "/?prefix=J&max-keys=2", headers, signed: signed,
                signature: "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"))
    }

    private func presigned(expires: String = "86400", extra: [(String, String)] = []) throws -> RequestHead {
        let target =
            "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
            + "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=\(expires)&X-Amz-SignedHeaders=host"
            + "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        return try RequestHead(method: "GET", target: target, headers: ([("Host", host)] + extra).map { (name: $0.0, value: $0.1) })
    }

    @Test func thePresignedExampleUntilItExpires() throws {
        let payload = "UNSIGNED-PAYLOAD"
        try verify(try presigned(), payload: payload, at: now + 86_400)
        let late = #expect(throws: S3Error.self) { try verify(try presigned(), payload: payload, at: now + 86_401) }
        #expect(late?.code == .accessDenied)
        let early = #expect(throws: S3Error.self) { try verify(try presigned(), payload: payload, at: now - 1_000) }
        #expect(early?.code == .accessDenied)
        let longer = #expect(throws: S3Error.self) { try verify(try presigned(expires: "86401"), payload: payload) }
        #expect(longer?.code == .signatureDoesNotMatch)
        #expect(throws: S3Error.self) { try presigned(expires: "604801").map { try Signature($0) } }
    }

    @Test func theChunkedExample() throws {
        let signature = try #require(try Signature(try getObject()))
        let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
        // SHA-256 of 65,536 and of 1,024 letters a.
        let first = signature.chunkSignature(
            previous: seed, dataHash: "bf718b6f653bebc184e1479f1935b8da974d701b893afcf49e701f3e2f9f9c5a",
            key: signature.signingKey(secret: secret))
        #expect(first == "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648")
        let second = signature.chunkSignature(
            previous: first, dataHash: "2edc986847e209b4016e141a6dc8716d3207350f416969382d431539bf292e4a",
            key: signature.signingKey(secret: secret))
        #expect(second == "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497")
        let last = signature.chunkSignature(previous: second, dataHash: empty, key: signature.signingKey(secret: secret))
        #expect(last == "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9")
    }

    @Test func whatWasTamperedWithIsRefused() throws {
        let wrong = #expect(throws: S3Error.self) { try verify(try getObject(), secret: "other") }
        #expect(wrong?.code == .signatureDoesNotMatch)
        let skewed = #expect(throws: S3Error.self) { try verify(try getObject(), at: now + 901) }
        #expect(skewed?.code == .requestTimeTooSkewed)
        let added = try head(
            "GET", "/test.txt", [("Range", "bytes=0-9"), ("x-amz-content-sha256", empty), ("x-amz-acl", "public-read")],
            signed: "host;range;x-amz-content-sha256;x-amz-date",
            signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
        #expect(#expect(throws: S3Error.self) { try verify(added) }?.code == .accessDenied)
    }

    @Test(arguments: [
        "", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ", "AWS key:signature", "AWS4-HMAC-SHA256 Credential=a/b/c/d/e",
        "AWS4-HMAC-SHA256 Credential=a/20130524/r/s3/aws4_request,SignedHeaders=range,Signature=" + String(repeating: "a", count: 64),
        "AWS4-HMAC-SHA256 Credential=a/20130524/r/ec2/aws4_request,SignedHeaders=host,Signature=" + String(repeating: "a", count: 64),
        "AWS4-HMAC-SHA256 Credential=a/20130525/r/s3/aws4_request,SignedHeaders=host,Signature=" + String(repeating: "a", count: 64),
        "AWS4-HMAC-SHA256 Credential=a/20130524/r/s3/aws4_request,SignedHeaders=host,Signature=ab",
        "AWS4-HMAC-SHA256 Credential=/20130524/r/s3/aws4_request,SignedHeaders=host,Signature=" + String(repeating: "a", count: 64),
        "AWS4-HMAC-SHA256 Credential=a,Credential=b,SignedHeaders=host,Signature=c",
    ])
    func malformedHeadersAreRefused(header: String) throws {
        let head = try RequestHead(
            method: "GET", target: "/", headers: [("host", "x"), ("x-amz-date", "20130524T000000Z"), ("authorization", header)])
        #expect(#expect(throws: S3Error.self) { try Signature(head) }?.code == .authorizationHeaderMalformed)
    }

    @Test(arguments: ["/%", "/%2", "/%zz", "/a?b=%", "/?%f=1"])
    func brokenPercentEncodingIsRefused(target: String) {
        #expect(throws: S3Error.self) { try RequestHead(method: "GET", target: target, headers: []) }
    }

    @Test func anUnsignedRequestHasNoSignature() throws {
        #expect(try Signature(try RequestHead(method: "GET", target: "/a", headers: [("host", "x")])) == nil)
    }
}

extension RequestHead {
    fileprivate func map<Value>(_ body: (RequestHead) throws -> Value) rethrows -> Value { try body(self) }
}
