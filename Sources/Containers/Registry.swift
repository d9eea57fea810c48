import Disk
import Foundation
import Glibc
import Resource

/// Container registries, reached by skopeo.
package struct Registry: Sendable {
    /// User and password of a registry.
    package struct Credentials: Sendable {
        package var username: String
        package var password: String

        package init(username: String, password: String) { (self.username, self.password) = (username, password) }
    }

    /// What a registry says of an image, before any of it is fetched.
    package struct Description: Sendable, Equatable {
        /// `sha256:…` of its manifest, or of the list of them.
        package var digest: String
        /// Of all layers as they are sent.
        package var bytes: Int64
    }

    private let name: String
    /// Where skopeo finds the credentials; nil for anonymous access.
    private let authFile: String?

    /// `folder` is where the credentials lie while they are needed, readable by us alone.
    package init(image name: String, credentials: Credentials?, folder: String) throws {
        self.name = name
        guard let credentials else {
            authFile = nil
            return
        }
        let token = Data("\(credentials.username):\(credentials.password)".utf8).base64EncodedString()
        let file: JSON = ["auths": .object([.init(Self.host(of: name), ["auth": .string(token)])])]
        let path = folder + "/auth.json"
        try Files.replace(path, with: file.bytes)
        authFile = path
    }

    /// The part of a name before its first slash where that looks like a host, else Docker Hub.
    static func host(of name: String) -> String {
        let first = name.prefix { $0 != "/" }
        let isHost = first.count < name.count && (first.contains(".") || first.contains(":") || first == "localhost")
        return isHost ? String(first) : "docker.io"
    }

    /// Registries on this machine speak plain HTTP more often than not: as Docker does, TLS is not asked of them.
    private func flags(_ prefix: String) -> [String] {
        let host = Self.host(of: name).prefix { $0 != ":" }
        var flags = NetworkAddress.isLoopback(String(host)) ? ["--\(prefix)tls-verify=false"] : []
        if let authFile { flags += ["--\(prefix == "src-" ? "src-" : "")authfile", authFile] }
        return flags
    }

    package func describe() async throws -> Description {
        let output = try await Command.output("skopeo", ["--insecure-policy", "inspect", "--no-tags"] + flags("") + ["docker://" + name])
        guard output.code == 0, let json = try? JSONReader.parse(Array(output.stdout.utf8)), let digest = json["Digest"]?.string else {
            throw RoostError(.unavailable, Self.reason(output.stderr))
        }
        let sizes = (json["LayersData"]?.array ?? []).compactMap { $0["Size"]?.int }
        return Description(digest: digest, bytes: sizes.reduce(0) { $0 &+ Int64($1) })
    }

    /// Fetches the image of a digest into an OCI layout, each blob checked against its digest.
    package func fetch(_ digest: String, into layout: String) async throws {
        let base = name.firstIndex(of: "@").map { String(name[..<$0]) } ?? Self.withoutTag(name)
        let output = try await Command.output(
            "skopeo", ["--insecure-policy", "copy", "--quiet"] + flags("src-") + ["docker://\(base)@\(digest)", "oci:\(layout):image"])
        guard output.code == 0 else {
            let isFull = output.stderr.contains("no space left on device")
            throw RoostError(isFull ? .noSpace : .unavailable, Self.reason(output.stderr))
        }
    }

    private static func withoutTag(_ name: String) -> String {
        let last = name.lastIndex(of: "/") ?? name.startIndex
        return name[last...].lastIndex(of: ":").map { String(name[..<$0]) } ?? name
    }

    /// skopeo's last line, without its own dressing.
    private static func reason(_ stderr: String) -> String {
        let line = stderr.split(separator: "\n").last.map(String.init) ?? "skopeo failed"
        let text = line.firstRange(of: "msg=\"").map { String(line[$0.upperBound...].dropLast()) } ?? line
        return String(text.prefix(400))
    }
}
