import ArgumentParser
import Foundation
import Resource
import S3

/// One side of a transfer: a local path, or `VOLUME:path`.
enum VolumePath: Equatable {
    case local(String)
    case remote(volume: String, path: String)

    init(_ text: String) throws {
        // What begins like a path is one, whatever colons it has.
        if let colon = text.firstIndex(of: ":"), !text.hasPrefix("/"), !text.hasPrefix("."), colon != text.startIndex {
            let volume = String(text[..<colon])
            guard !volume.contains("/") else {
                self = .local(text)
                return
            }
            var path = text[text.index(after: colon)...]
            while path.hasPrefix("/") { path = path.dropFirst() }
            self = .remote(volume: volume, path: String(path))
        } else {
            guard !text.isEmpty else { throw ValidationError("a path is empty") }
            self = .local(text)
        }
    }

    /// A volume, with or without a colon: what `ls` and `du` take.
    static func volume(_ text: String) throws -> (volume: String, path: String) {
        let path = try VolumePath(text.contains(":") ? text : text + ":")
        guard case .remote(let volume, let inside) = path else { throw ValidationError("'\(text)' is not VOLUME or VOLUME:path") }
        return (volume, inside)
    }
}

/// The S3 door as the command line reaches it: with the credentials of the environment, or with a key of its own that
/// lives as long as the command.
struct VolumeSession: Sendable {
    let client: S3Client
    private let server: ServerClient
    private let temporaryKey: String?

    /// Seconds after which a key that a killed command left stops working.
    private static let keySeconds = 86_400

    static func run(_ options: ClientOptions, _ body: (VolumeSession) async throws -> Void) async throws {
        let session = try await open(options)
        do {
            try await body(session)
            await session.close()
        } catch let failure as S3Failure {
            await session.close()
            Terminal.clearStatus()
            Terminal.error("\(failure)")
            throw ExitCode(1)
        } catch {
            await session.close()
            Terminal.clearStatus()
            throw error
        }
    }

    private static func open(_ options: ClientOptions) async throws -> VolumeSession {
        let server = options.client
        if let url = Environment["ROOST_S3_URL"], let id = Environment["AWS_ACCESS_KEY_ID"],
            let secret = Environment["AWS_SECRET_ACCESS_KEY"]
        {
            let client = S3Client(endpoint: url, region: "roost", accessKey: id, secret: secret)
            return VolumeSession(client: client, server: server, temporaryKey: nil)
        }
        let door = try await server.call(.GET, "/v1/s3")
        let made = try await server.call(
            .POST, "/v1/s3keys", body: ["name": "roost volume", "expiresInSeconds": .int(keySeconds), "manageBuckets": false])
        guard let url = door["url"]?.string, let id = made["accessKeyId"]?.string, let secret = made["secretAccessKey"]?.string else {
            Terminal.error("the server gave no S3 key")
            throw ExitCode(1)
        }
        let client = S3Client(endpoint: url, region: "roost", accessKey: id, secret: secret)
        return VolumeSession(client: client, server: server, temporaryKey: id)
    }

    private func close() async {
        if let temporaryKey { _ = try? await server.call(.DELETE, "/v1/s3keys/" + ServerClient.encode(temporaryKey)) }
    }
}
