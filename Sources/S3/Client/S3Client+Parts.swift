import NIOCore

/// Uploads in parts.
extension S3Client {
    /// The uploads of one key that wait for their completion, newest last.
    package func uploads(_ bucket: String, _ key: String) async throws -> [String] {
        let root = try await document(send(.GET, bucket, query: [("uploads", ""), ("prefix", key)]))
        return root.all("Upload").filter { $0["Key"]?.text == key }.compactMap { $0["UploadId"]?.text }
    }

    package func createUpload(_ bucket: String, _ key: String, headers: [(String, String)] = []) async throws -> String {
        let root = try await document(send(.POST, bucket, key, query: [("uploads", "")], headers: headers))
        guard let id = root["UploadId"]?.text else { throw S3Failure(status: 200, code: "MalformedXML", message: "no UploadId") }
        return id
    }

    /// Number, size and ETag of the parts that are there.
    package func parts(_ bucket: String, _ key: String, upload: String) async throws -> [Int: (size: Int64, etag: String)] {
        var (parts, marker): ([Int: (size: Int64, etag: String)], String?) = ([:], "0")
        while let at = marker {
            let root = try await document(send(.GET, bucket, key, query: [("uploadId", upload), ("part-number-marker", at)]))
            for part in root.all("Part") {
                guard let number = part["PartNumber"].flatMap({ Int($0.text) }), let size = part["Size"].flatMap({ Int64($0.text) }) else {
                    continue
                }
                parts[number] = (size, (part["ETag"]?.text ?? "").filter { $0 != "\"" })
            }
            marker = root["IsTruncated"]?.text == "true" ? root["NextPartNumberMarker"]?.text : nil
        }
        return parts
    }

    /// The part's ETag.
    package func putPart(_ bucket: String, _ key: String, upload: String, number: Int, _ body: ByteBuffer) async throws -> String {
        let query = [("uploadId", upload), ("partNumber", String(number))]
        let response = try await send(.PUT, bucket, key, query: query, headers: [checksum(body)], body: body)
        return try await Self.etag(response)
    }

    package func completeUpload(_ bucket: String, _ key: String, upload: String, etags: [String]) async throws {
        var xml = XMLWriter()
        xml.element("CompleteMultipartUpload") { xml in
            for (index, etag) in etags.enumerated() {
                xml.element("Part") { xml in
                    xml.text("PartNumber", String(index + 1))
                    xml.text("ETag", "\"\(etag)\"")
                }
            }
        }
        let body = ByteBuffer(bytes: xml.bytes)
        for attempt in 1... {
            do { return _ = try await document(send(.POST, bucket, key, query: [("uploadId", upload)], body: body)) } catch let failure
                as S3Failure
            {
                // A 200 with an error in it may pass like any other failure of the store.
                guard failure.status == 200, failure.isPassing, attempt < tries else { throw failure }
                try await Task.sleep(for: .milliseconds(200 << attempt))
            }
        }
    }

    /// Gives an upload up; one that is gone is no error.
    package func abortUpload(_ bucket: String, _ key: String, upload: String) async throws {
        do { _ = try await send(.DELETE, bucket, key, query: [("uploadId", upload)]) } catch let failure as S3Failure
            where failure.status == 404
        {}
    }
}
