import Resource

/// Rules of templates and endpoints.
extension Catalog {
    // MARK: - Templates

    package func createTemplate(_ body: JSON) async throws -> Template {
        let values = try FieldValues(body, fields: Template.fields, isUpdate: false)
        let template = Template(id: Identifier.make(length: Limits.shortIDLength), createdAt: now(), values: values)
        try checkName(of: template)
        try await change(\.templates, key: template.id, to: template) {
            try await store.save(template, kind: .template, id: template.id)
        }
        return template
    }

    package func updateTemplate(_ id: String, _ body: JSON) async throws -> Template {
        let old = try template(id)
        var template = old
        template.apply(try FieldValues(body, fields: Template.fields, isUpdate: true))
        try checkName(of: template)
        try await change(\.templates, key: id, to: template) { try await store.save(template, kind: .template, id: id) }
        if template.runsDifferently(from: old) {
            for endpoint in snapshot.endpoints.values where endpoint.templateId == id { try await bumpVersion(of: endpoint.id) }
        }
        return template
    }

    package func deleteTemplate(_ id: String) async throws {
        _ = try template(id)
        let users = snapshot.endpoints.values.filter { $0.templateId == id }.map(\.id).sorted()
        guard users.isEmpty else {
            throw RoostError(.conflict, "template \(id) is used by endpoint \(users.joined(separator: ", "))")
        }
        try await change(\.templates, key: id, to: nil) { try await store.remove(.template, id: id) }
    }

    package nonisolated func template(_ id: String) throws(RoostError) -> Template {
        guard let template = snapshot.templates[id] else { throw RoostError(.notFound, "there is no template \(id)") }
        return template
    }

    private func checkName(of template: Template) throws {
        guard !snapshot.templates.values.contains(where: { $0.name == template.name && $0.id != template.id }) else {
            throw RoostError(.conflict, "field 'name': a template called '\(template.name)' exists")
        }
    }

    // MARK: - Endpoints

    package func createEndpoint(_ body: JSON) async throws -> Endpoint {
        let values = try FieldValues(body, fields: Endpoint.fields, isUpdate: false)
        let endpoint = Endpoint(
            id: Identifier.make(length: Limits.idLength), createdAt: now(), standardCompute: standardCompute, values: values)
        try check(endpoint)
        try await saveEndpoint(endpoint)
        return endpoint
    }

    package func updateEndpoint(_ id: String, _ body: JSON) async throws -> Endpoint {
        let old = try existingEndpoint(id)
        var endpoint = old
        endpoint.apply(try FieldValues(body, fields: Endpoint.fields, isUpdate: true))
        try check(endpoint)
        if endpoint.runsDifferently(from: old) { endpoint.version += 1 }
        try await saveEndpoint(endpoint)
        return endpoint
    }

    /// Forgets it. Its jobs and workers are the caller's.
    package func deleteEndpoint(_ id: String) async throws {
        _ = try existingEndpoint(id)
        try await change(\.endpoints, key: id, to: nil) { try await store.remove(.endpoint, id: id) }
        demand.signal(id)
    }

    package nonisolated func existingEndpoint(_ id: String) throws(RoostError) -> Endpoint {
        guard let endpoint = endpoint(id) else { throw RoostError(.notFound, "there is no endpoint \(id.prefix(80))") }
        return endpoint
    }

    private func saveEndpoint(_ endpoint: Endpoint) async throws {
        try await change(\.endpoints, key: endpoint.id, to: endpoint) {
            try await store.save(endpoint, kind: .endpoint, id: endpoint.id)
        }
        demand.signal(endpoint.id)
    }

    private func bumpVersion(of id: String) async throws {
        guard var endpoint = endpoint(id) else { return }
        endpoint.version += 1
        try await saveEndpoint(endpoint)
    }

    /// Object stores and volumes that it names besides those it mounts.
    private func checkPlaces(of endpoint: Endpoint) throws {
        if let text = endpoint.largeData {
            switch ObjectPlace.Name(text) {
            case .store(let name) where snapshot.objectStores[name] != nil: break
            case .volume(let id) where snapshot.volumes[id] != nil: break
            default:
                throw RoostError(
                    .invalid, "field 'largeData': got '\(text.prefix(80))'; allowed: store:NAME or volume:ID of one that exists, or empty")
            }
        }
        for text in endpoint.modelReferences {
            guard case .folder(let name, _) = try ModelReference(text) else { continue }
            switch ObjectPlace.Name(name) {
            case .store(let name) where snapshot.objectStores[name] != nil: break
            case .volume(let id) where snapshot.volumes[id] != nil: break
            default: throw RoostError(.invalid, "field 'modelReferences': there is no \(name.prefix(80))")
            }
        }
        var paths: Set<String> = []
        for text in endpoint.bucketMounts {
            let mount = try BucketMount(text)
            guard snapshot.objectStores[mount.store] != nil else {
                throw RoostError(.invalid, "field 'bucketMounts': there is no object store \(mount.store)")
            }
            guard paths.insert(mount.path).inserted else {
                throw RoostError(.invalid, "field 'bucketMounts': \(mount.path) is named twice")
            }
        }
    }

    private func check(_ endpoint: Endpoint) throws {
        let snapshot = snapshot
        guard snapshot.templates[endpoint.templateId] != nil else {
            throw RoostError(.invalid, "field 'templateId': there is no template \(endpoint.templateId)")
        }
        guard endpoint.workersMin <= endpoint.workersMax else {
            throw RoostError(
                .invalid, "field 'workersMin': got \(endpoint.workersMin); allowed: 0 to workersMax (\(endpoint.workersMax))")
        }
        for id in endpoint.dataCenterIds where !dataCenters.contains(where: { $0.id == id }) {
            let known = dataCenters.map(\.id).joined(separator: ", ")
            throw RoostError(.invalid, "field 'dataCenterIds': there is no data center \(id); allowed: \(known)")
        }
        if let store = endpoint.objectStore, snapshot.objectStores[store] == nil {
            throw RoostError(.invalid, "field 'objectStore': there is no object store \(store.prefix(80))")
        }
        try checkPlaces(of: endpoint)
        let volumes = try endpoint.networkVolumeIds.map { id in
            guard let volume = snapshot.volumes[id], volume.state != .deleting else {
                throw RoostError(.invalid, "field 'networkVolumeIds': there is no network volume \(id)")
            }
            return volume
        }
        let all = snapshot.volumes.values.filter { $0.state != .deleting }.sorted { $0.id < $1.id }
        try Placement.check(volumes: volumes, of: endpoint, others: all)
    }
}
