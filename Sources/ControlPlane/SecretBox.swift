import Crypto
import Disk
import Foundation
import Resource

/// Seals secrets that must be kept and used again, with AES-256-GCM and a key of the data directory's own.
///
/// The key file has one key a line, `ID BASE64`, newest first; it is readable by the server's user alone. Sealed texts
/// name their key, so that older ones open after a rotation.
package struct SecretBox: Sendable {
    private let keys: [(id: String, key: SymmetricKey)]

    /// Reads the key file, or makes it.
    package init(path: String) throws {
        if !Files.exists(path) {
            let secret = SymmetricKey(size: .bits256).withUnsafeBytes { Data($0).base64EncodedString() }
            try Files.replace(path, with: Array("\(Identifier.make(length: 8)) \(secret)\n".utf8))
        }
        let text = String(decoding: try Files.read(path), as: UTF8.self)
        keys = text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 2, let data = Data(base64Encoded: words[1]), data.count == 32 else { return nil }
            return (words[0], SymmetricKey(data: data))
        }
        guard !keys.isEmpty else {
            throw RoostError(.internalFault, "\(path) holds no key: restore it from a backup, secrets are sealed with it")
        }
    }

    /// `purpose` is bound to the text: what was sealed for one thing does not open as another.
    package func seal(_ secret: String, purpose: String) throws -> String {
        let (id, key) = keys[0]
        let box = try AES.GCM.seal(Data(secret.utf8), using: key, authenticating: Data(purpose.utf8))
        guard let combined = box.combined else { throw RoostError(.internalFault, "a secret could not be sealed") }
        return "\(id):\(combined.base64EncodedString())"
    }

    package func open(_ sealed: String, purpose: String) throws -> String {
        let words = sealed.split(separator: ":", maxSplits: 1).map(String.init)
        guard words.count == 2, let key = keys.first(where: { $0.id == words[0] })?.key, let data = Data(base64Encoded: words[1]) else {
            throw RoostError(.internalFault, "a secret was sealed with a key that is not in the key file")
        }
        let bytes = try AES.GCM.open(AES.GCM.SealedBox(combined: data), using: key, authenticating: Data(purpose.utf8))
        return String(decoding: bytes, as: UTF8.self)
    }
}
