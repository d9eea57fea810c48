/// A credential of the management and job API. The key itself is shown once; only its SHA-256 is kept.
package struct APIKey: Codable, Sendable, Equatable {
    package enum Scope: String, Codable, Sendable {
        case all = "ALL"
        /// Reads only, everywhere.
        case readOnly = "READ_ONLY"
        /// Only the job API of the endpoints named.
        case restricted = "RESTRICTED"
    }

    package enum Access: String, Codable, Sendable {
        case read = "READ"
        case readWrite = "READ_WRITE"
    }

    package var id: String
    package var name: String
    package var scope: Scope
    package var endpoints: [String: Access]
    /// Hexadecimal SHA-256 of the key.
    package var hash: String
    package var createdAt: Milliseconds

    package static let fields: [Field] = [
        Field("name", .text(191), required: true, "name for people"),
        Field("scope", .choice(["ALL", "READ_ONLY", "RESTRICTED"]), default: "ALL", "what it may do"),
        Field("endpoints", .map(1_000), default: [:], "for RESTRICTED: endpoint id to READ or READ_WRITE"),
    ]

    package init(id: String, name: String, scope: Scope, endpoints: [String: Access], hash: String, at: Milliseconds) {
        self.id = id
        self.name = name
        self.scope = scope
        self.endpoints = endpoints
        self.hash = hash
        createdAt = at
    }

    /// Whether it may use the management API.
    package func allowsManagement(write: Bool) -> Bool { scope == .all || (scope == .readOnly && !write) }

    /// Whether it may use the job API of one endpoint.
    package func allowsJobs(of endpoint: String, write: Bool) -> Bool {
        switch scope {
        case .all: true
        case .readOnly: !write
        case .restricted: endpoints[endpoint].map { !write || $0 == .readWrite } ?? false
        }
    }

    package var json: JSON {
        [
            "id": .string(id), "name": .string(name), "scope": .string(scope.rawValue),
            "endpoints": JSON(map: endpoints.mapValues(\.rawValue)), "createdAt": .string(Timestamp.text(createdAt)),
        ]
    }
}
