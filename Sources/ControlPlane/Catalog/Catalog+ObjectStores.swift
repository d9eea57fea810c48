import Resource

/// Named object stores: the user's own, outside Roost.
extension Catalog {
    package func createObjectStore(_ body: JSON) async throws -> ObjectStore {
        let values = try FieldValues(body, fields: ObjectStore.fields, isUpdate: false)
        let name = values.string("name") ?? ""
        let store = try ObjectStore(name: name, sealedSecret: seal(values, name), at: now(), values: values)
        try check(store)
        guard snapshot.objectStores[name] == nil else { throw RoostError(.conflict, "field 'name': an object store '\(name)' exists") }
        try await save(store)
        return store
    }

    package func updateObjectStore(_ name: String, _ body: JSON) async throws -> ObjectStore {
        var store = try objectStore(name)
        let values = try FieldValues(body, fields: ObjectStore.fields, isUpdate: true)
        try store.apply(values)
        if values.string("accessSecret") != nil { store.sealedSecret = try seal(values, name) }
        try check(store)
        try await save(store)
        return store
    }

    package func deleteObjectStore(_ name: String) async throws {
        _ = try objectStore(name)
        let users = snapshot.endpoints.values.filter { $0.uses(store: name) }.map(\.id).sorted()
        guard users.isEmpty else {
            throw RoostError(.conflict, "object store \(name) is used by endpoint \(users.joined(separator: ", "))")
        }
        try await change(\.objectStores, key: name, to: nil) { try await self.store.remove(.objectstore, id: name) }
    }

    package nonisolated func objectStore(_ name: String) throws(RoostError) -> ObjectStore {
        guard let store = snapshot.objectStores[name] else { throw RoostError(.notFound, "there is no object store \(name.prefix(80))") }
        return store
    }

    package nonisolated func secret(of store: ObjectStore) throws -> String {
        try secrets.open(store.sealedSecret, purpose: "objectstore " + store.name)
    }

    /// What a handler sees as `job["s3Config"]`; nil where there is no such store.
    package nonisolated func s3Config(of name: String) -> JSON? {
        guard let store = try? objectStore(name), let secret = try? secret(of: store) else { return nil }
        return [
            "accessId": .string(store.accessId), "accessSecret": .string(secret), "bucketName": .string(store.bucketName),
            "endpointUrl": .string(store.endpointUrl),
        ]
    }

    private func seal(_ values: FieldValues, _ name: String) throws -> String {
        try secrets.seal(values.string("accessSecret") ?? "", purpose: "objectstore " + name)
    }

    private func save(_ store: ObjectStore) async throws {
        try await change(\.objectStores, key: store.name, to: store) {
            try await self.store.save(store, kind: .objectstore, id: store.name)
        }
    }

    /// Addresses that nobody's store has, but that machines trust: cloud metadata, and our own API.
    private func check(_ store: ObjectStore) throws(RoostError) {
        try guardian.check(host: store.host, port: store.port, field: "endpointUrl")
    }

    /// Seals everything anew with a fresh key. Jobs keep the key they were sealed with until their time is over.
    package func rotateSecrets() async throws -> Int {
        try secrets.rotate()
        for var store in snapshot.objectStores.values {
            store.sealedSecret = try secrets.seal(secret(of: store), purpose: "objectstore " + store.name)
            try await save(store)
        }
        try await resealS3Keys()
        try await resealRegistryAuths()
        return try secrets.retire()
    }
}
