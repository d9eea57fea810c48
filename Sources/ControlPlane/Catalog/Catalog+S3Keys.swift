import Resource

/// Keys of the S3 door.
extension Catalog {
    /// Makes a key; the secret is returned once.
    package func createS3Key(_ body: JSON) async throws -> (S3Key, secret: String) {
        let values = try FieldValues(body, fields: S3Key.fields, isUpdate: false)
        let id = "user_" + Identifier.make(length: 27)
        let secret = "rps_" + Identifier.secret().prefix(44)
        let sealed = try secrets.seal(secret, purpose: id)
        var key = try S3Key(values: values, sealedSecret: sealed, accessKeyId: id, at: now())
        key.volumeIds = try key.volumeIds.map { name in
            let named = snapshot.volumes.values.filter { $0.id == name || $0.name == name }
            guard let volume = named.first(where: { $0.id == name }) ?? (named.count == 1 ? named.first : nil) else {
                throw RoostError(.invalid, "field 'volumeIds': there is no network volume \(name.prefix(80))")
            }
            return volume.id
        }
        try await change(\.s3Keys, key: id, to: key) { try await store.save(key, kind: .s3key, id: id) }
        return (key, secret)
    }

    package nonisolated func s3Key(_ id: String) throws(RoostError) -> S3Key {
        guard let key = snapshot.s3Keys[id] else { throw RoostError(.notFound, "there is no S3 key \(id.prefix(80))") }
        return key
    }

    package func revokeS3Key(_ id: String) async throws {
        _ = try s3Key(id)
        try await change(\.s3Keys, key: id, to: nil) { try await store.remove(.s3key, id: id) }
    }

    func resealS3Keys() async throws {
        for var key in snapshot.s3Keys.values {
            let id = key.accessKeyId
            key.sealedSecret = try secrets.seal(secret(of: key), purpose: id)
            try await change(\.s3Keys, key: id, to: key) { try await store.save(key, kind: .s3key, id: id) }
        }
    }

    package nonisolated func secret(of key: S3Key) throws -> String { try secrets.open(key.sealedSecret, purpose: key.accessKeyId) }

    /// Forgets keys that expired a day ago: until then their owner can see why they stopped working.
    package func forgetExpiredS3Keys() async throws {
        for key in snapshot.s3Keys.values where key.isExpired(at: now() - 86_400_000) { try await revokeS3Key(key.accessKeyId) }
    }
}
