import Resource

/// Credentials of container registries.
extension Catalog {
    package func createRegistryAuth(_ body: JSON) async throws -> RegistryAuth {
        let values = try FieldValues(body, fields: RegistryAuth.fields, isUpdate: false)
        let (id, name) = (Identifier.make(length: Limits.idLength), values.string("name") ?? "")
        guard !snapshot.registryAuths.values.contains(where: { $0.name == name }) else {
            throw RoostError(.conflict, "field 'name': registry credentials called '\(name)' exist")
        }
        let sealed = try secrets.seal(values.string("password") ?? "", purpose: Self.purpose(id))
        let auth = RegistryAuth(id: id, name: name, username: values.string("username") ?? "", sealedPassword: sealed)
        try await save(auth)
        return auth
    }

    package nonisolated func registryAuth(_ id: String) throws(RoostError) -> RegistryAuth {
        guard let auth = snapshot.registryAuths[id] else {
            throw RoostError(.notFound, "there are no registry credentials \(id.prefix(80))")
        }
        return auth
    }

    package func deleteRegistryAuth(_ id: String) async throws {
        _ = try registryAuth(id)
        if let user = snapshot.templates.values.first(where: { $0.containerRegistryAuthId == id }) {
            throw RoostError(.conflict, "registry credentials \(id) are used by template \(user.id) (\(user.name))")
        }
        try await change(\.registryAuths, key: id, to: nil) { try await store.remove(.registryauth, id: id) }
    }

    package nonisolated func password(of auth: RegistryAuth) throws -> String {
        try secrets.open(auth.sealedPassword, purpose: Self.purpose(auth.id))
    }

    func resealRegistryAuths() async throws {
        for var auth in snapshot.registryAuths.values {
            auth.sealedPassword = try secrets.seal(password(of: auth), purpose: Self.purpose(auth.id))
            try await save(auth)
        }
    }

    private func save(_ auth: RegistryAuth) async throws {
        try await change(\.registryAuths, key: auth.id, to: auth) { try await store.save(auth, kind: .registryauth, id: auth.id) }
    }

    private static func purpose(_ id: String) -> String { "registry " + id }
}
