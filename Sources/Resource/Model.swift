/// What an endpoint calls a model: `volume:ID/path`, `store:NAME/path`, `hf:ORG/NAME[@REF]`, or a repository's page on the hub,
/// `https://huggingface.co/ORG/NAME[:REF]`.
package enum ModelReference: Sendable, Equatable, Hashable {
    /// A place (`volume:ID` or `store:NAME`) and a folder in it.
    case folder(place: String, path: String)
    case hub(organization: String, name: String, revision: String)

    package init(_ text: String) throws(RoostError) {
        let malformed = RoostError(
            .invalid,
            "model '\(text.prefix(120))': allowed are volume:ID/path, store:NAME/path, hf:ORG/NAME[@REF] and https://huggingface.co/ORG/NAME[:REF]"
        )
        if text.hasPrefix("volume:") || text.hasPrefix("store:") {
            let parts = text.split(separator: "/", maxSplits: 1).map(String.init)
            let path = parts.count > 1 ? parts[1].split(separator: "/").map(String.init) : []
            guard !path.isEmpty, path.allSatisfy({ $0 != "." && $0 != ".." }) else { throw malformed }
            self = .folder(place: parts[0], path: path.joined(separator: "/"))
            return
        }
        var rest: Substring
        let separator: Character
        if text.hasPrefix("hf:") {
            (rest, separator) = (text.dropFirst(3), "@")
        } else if text.hasPrefix("https://huggingface.co/") {
            (rest, separator) = (text.dropFirst("https://huggingface.co/".count), ":")
        } else {
            throw malformed
        }
        var revision = "main"
        if let at = rest.firstIndex(of: separator) {
            revision = String(rest[rest.index(after: at)...])
            rest = rest[..<at]
        }
        let parts = rest.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, (parts + [revision]).allSatisfy(Self.isName) else { throw malformed }
        self = .hub(organization: parts[0], name: parts[1], revision: revision)
    }

    private static func isName(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 128 && text != "." && text != ".."
            && text.unicodeScalars.allSatisfy(Identifier.isPlain)
    }

    package var text: String {
        switch self {
        case .folder(let place, let path): "\(place)/\(path)"
        case .hub(let organization, let name, let revision): "hf:\(organization)/\(name)@\(revision)"
        }
    }

    /// The folder that handlers look for below `huggingface-cache/hub`.
    package var folder: String {
        switch self {
        case .hub(let organization, let name, _): return "models--\(organization)--\(name)"
        case .folder(let place, let path):
            let owner = place.split(separator: ":").last.map(String.init) ?? "roost"
            let plain = path.unicodeScalars.map { Identifier.isPlain($0) ? Character($0) : "-" }
            return "models--\(owner)--\(String(plain))"
        }
    }

    /// Whether they differ in nothing but the branch or tag.
    package func isSameModel(as other: ModelReference) -> Bool {
        switch (self, other) {
        case (.hub(let organization, let name, _), .hub(let otherOrganization, let otherName, _)):
            organization == otherOrganization && name == otherName
        default: self == other
        }
    }

    /// The branch or tag by which handlers find its snapshot.
    package var revision: String {
        if case .hub(_, _, let revision) = self { return revision }
        return "main"
    }
}

/// A model in the local cache, shared read-only by all workers whose endpoints name it.
package struct Model: Codable, Sendable, Equatable {
    package struct File: Codable, Sendable, Equatable {
        package var path: String
        package var size: Int64
        /// Hexadecimal.
        package var sha256: String

        package init(path: String, size: Int64, sha256: String) { (self.path, self.size, self.sha256) = (path, size, sha256) }
    }

    package var id: String
    package var reference: String
    /// Name of its snapshot: the hub's commit, or a digest of what was listed.
    package var snapshot: String
    package var files: [File]
    package var createdAt: Milliseconds
    package var usedAt: Milliseconds

    package init(id: String, reference: String, snapshot: String, files: [File], at now: Milliseconds) {
        (self.id, self.reference, self.snapshot, self.files) = (id, reference, snapshot, files)
        (createdAt, usedAt) = (now, now)
    }

    package var bytes: Int64 { files.reduce(0) { $0 + $1.size } }

    package var json: JSON {
        [
            "id": .string(id), "reference": .string(reference), "snapshot": .string(snapshot), "files": .int(files.count),
            "bytes": .int(Int(bytes)), "createdAt": .string(Timestamp.text(createdAt)), "usedAt": .string(Timestamp.text(usedAt)),
        ]
    }
}
