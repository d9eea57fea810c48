/// Credentials of a container registry, by an id that templates name. RunPod REST v1, `/containerregistryauth`.
package struct RegistryAuth: Codable, Sendable, Equatable {
    package var id: String
    package var name: String
    package var username: String
    package var sealedPassword: String

    package static let fields: [Field] = [
        Field("name", .text(191), required: true, mutable: false, "name for people; unique"),
        Field("username", .text(255), required: true, mutable: false, "user of the registry"),
        Field("password", .text(4_096), required: true, mutable: false, "password or token; kept sealed and never shown"),
    ]

    package init(id: String, name: String, username: String, sealedPassword: String) {
        (self.id, self.name, self.username, self.sealedPassword) = (id, name, username, sealedPassword)
    }

    package var json: JSON { ["id": .string(id), "name": .string(name)] }
}
