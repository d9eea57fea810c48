import Crypto

/// Uploads by an HTML form, signed through their policy.
extension S3Service {
    func formUpload(_ head: RequestHead, bucketName: String, _ body: BodyReader) throws -> Answer {
        var form = try FormReader(head, body)
        var (fields, filename) = try form.fields()
        fields["bucket"] = bucketName
        let (caller, policy) = try formCaller(fields)
        guard let pattern = fields["key"], !pattern.isEmpty else { throw FormReader.malformed("it has no key") }
        try policy.check(fields, now: nowMilliseconds)
        // Of a path that a browser sends, the last name.
        let name = filename.split(whereSeparator: { $0 == "/" || $0 == "\\" }).last.map(String.init) ?? ""
        let keyBytes = Array(pattern.replacing("${filename}", with: name).utf8)
        let request = S3Request(head: head, caller: caller, body: body, bucketName: bucketName, keyBytes: keyBytes, service: self)
        let (tree, key) = try request.object(writes: true)
        guard !key.isDirectory else { throw S3Error(.invalidRequest, "a form's key must name a file") }
        try gate.enter(tree.id)
        defer { gate.leave(tree.id) }
        let etag = try store(&form, tree, key, Self.record(headers: fields.map { (name: $0.key, value: $0.value) }), policy)
        return try Self.formAnswer(fields, bucketName, key, etag, host: head.header("host") ?? "")
    }

    private func formCaller(_ fields: [String: String]) throws(S3Error) -> (Caller, FormPolicy) {
        guard let text = fields["policy"], let credential = fields["x-amz-credential"], let date = fields["x-amz-date"],
            let hex = fields["x-amz-signature"], fields["x-amz-algorithm"] == "AWS4-HMAC-SHA256"
        else { throw S3Error(.accessDenied, "the form is not signed: it needs policy, x-amz-algorithm, -credential, -date and -signature") }
        let signature = try Signature(formCredential: credential, timestamp: date, hex: hex)
        return (try authenticator.caller(form: signature, policy: text), try FormPolicy(base64: text))
    }

    private func store(
        _ form: inout FormReader, _ tree: VolumeTree, _ key: ObjectKey, _ record: ObjectRecord, _ policy: FormPolicy
    ) throws -> String {
        let staged = try tree.stage()
        var md5 = Insecure.MD5()
        let sizes = policy.sizes
        try form.file { bytes in
            md5.update(bufferPointer: bytes)
            try staged.append(bytes)
            guard staged.size <= sizes.upperBound else { throw S3Error(.entityTooLarge, "the policy allows \(sizes.upperBound) bytes") }
        }
        guard staged.size >= sizes.lowerBound else {
            throw S3Error(.invalidArgument, "the policy wants \(sizes.lowerBound) bytes at least")
        }
        var record = record
        record.etag = Signature.text(md5.finalize())
        let conditions = Preconditions(try RequestHead(method: "POST", target: "/", headers: []))
        return try tree.publish(staged, as: key, record, if: conditions, time: nowMilliseconds).etag
    }

    private static func formAnswer(
        _ fields: [String: String], _ bucket: String, _ key: ObjectKey, _ etag: String, host: String
    ) throws(S3Error) -> Answer {
        let shownKey = shown(Array(key.text.utf8), encoded: true)
        if let target = fields["success_action_redirect"] {
            guard target.hasPrefix("http://") || target.hasPrefix("https://"), ObjectRecord.isPlain(target) else {
                throw S3Error(.invalidArgument, "success_action_redirect is no URL")
            }
            let query = "bucket=\(bucket)&key=\(shown(Array(key.text.utf8), encoded: true))&etag=%22\(etag)%22"
            return Answer(303, headers: [("Location", target + (target.contains("?") ? "&" : "?") + query)])
        }
        var answer: Answer
        switch fields["success_action_status"] {
        case "201":
            var xml = XMLWriter()
            xml.element("PostResponse") { xml in
                xml.text("Location", "http://\(host)/\(bucket)/\(shownKey)")
                xml.text("Bucket", bucket)
                xml.text("Key", key.text)
                xml.text("ETag", "\"\(etag)\"")
            }
            answer = .xml(xml.bytes, status: 201)
        case "200": answer = Answer(200)
        default: answer = Answer(204)
        }
        answer.headers.append(("ETag", "\"\(etag)\""))
        return answer
    }
}
