import Containers
import Crypto
import Disk
import Foundation
import Resource

/// Seals secrets that must be kept and used again, with AES-256-GCM and keys of the data directory's own.
///
/// The key file has one key a line, `ID BASE64 SECONDS`, newest first; it is readable by the server's user alone. Sealed
/// texts name their key, so that older ones open after a rotation. SECONDS is when the key was made.
package final class SecretBox: Sendable {
    private struct Key {
        var id: String
        var key: SymmetricKey
        var madeAt: Int64
    }

    private let path: String
    private let keys: Locked<[Key]>

    /// A key that was replaced so long ago has sealed no job that still lives, and signed no URL that is still good.
    private static let retirement: Int64 = 8 * 86_400

    /// Reads the key file, or makes it.
    package init(path: String) throws {
        self.path = path
        if !Files.exists(path) { try Self.write([Self.make()], to: path) }
        let text = String(decoding: try Files.read(path), as: UTF8.self)
        let found: [Key] = text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ").map(String.init)
            guard words.count >= 2, let data = Data(base64Encoded: words[1]), data.count == 32 else { return nil }
            return Key(id: words[0], key: SymmetricKey(data: data), madeAt: words.count > 2 ? Int64(words[2]) ?? 0 : 0)
        }
        guard !found.isEmpty else {
            throw RoostError(.internalFault, "\(path) holds no key: restore it from a backup, secrets are sealed with it")
        }
        keys = Locked(found)
    }

    private static func make() -> Key {
        Key(id: Identifier.make(length: 8), key: SymmetricKey(size: .bits256), madeAt: Int64(Date().timeIntervalSince1970))
    }

    private static func write(_ keys: [Key], to path: String) throws {
        let lines = keys.map { "\($0.id) \($0.key.withUnsafeBytes { Data($0).base64EncodedString() }) \($0.madeAt)\n" }
        try Files.replace(path, with: Array(lines.joined().utf8))
    }

    /// Seals with a new key from now on. The caller seals anew what it keeps; `retire` then drops what nothing needs.
    package func rotate() throws {
        let replaced = [Self.make()] + keys.withLock { $0 }
        try Self.write(replaced, to: path)
        keys.withLock { $0 = replaced }
    }

    /// Drops keys that were replaced long ago; returns how many there are now.
    @discardableResult
    package func retire() throws -> Int {
        let now = Int64(Date().timeIntervalSince1970)
        let all = keys.withLock { $0 }
        // A key was replaced when the one before it in the list was made.
        let kept = all.enumerated().filter { $0.offset == 0 || now - all[$0.offset - 1].madeAt < Self.retirement }.map(\.element)
        if kept.count < all.count {
            try Self.write(kept, to: path)
            keys.withLock { $0 = kept }
        }
        return kept.count
    }

    /// `purpose` is bound to the text: what was sealed for one thing does not open as another.
    package func seal(_ secret: String, purpose: String) throws -> String {
        let newest = keys.withLock { $0[0] }
        let box = try AES.GCM.seal(Data(secret.utf8), using: newest.key, authenticating: Data(purpose.utf8))
        guard let combined = box.combined else { throw RoostError(.internalFault, "a secret could not be sealed") }
        return "\(newest.id):\(combined.base64EncodedString())"
    }

    package func open(_ sealed: String, purpose: String) throws -> String {
        let words = sealed.split(separator: ":", maxSplits: 1).map(String.init)
        guard words.count == 2, let key = key(words[0]), let data = Data(base64Encoded: words[1]) else {
            throw RoostError(.internalFault, "a secret was sealed with a key that is not in the key file")
        }
        let bytes = try AES.GCM.open(AES.GCM.SealedBox(combined: data), using: key, authenticating: Data(purpose.utf8))
        return String(decoding: bytes, as: UTF8.self)
    }

    private func key(_ id: String) -> SymmetricKey? { keys.withLock { $0.first { $0.id == id }?.key } }

    // MARK: - Derived secrets

    /// A secret that only this data directory can compute, and the id of the key it comes from.
    package func derive(_ purpose: String) -> (keyID: String, secret: String) {
        let newest = keys.withLock { $0[0] }
        return (newest.id, Self.derive(purpose, newest.key))
    }

    /// The same secret again, as long as its key is kept.
    package func derived(_ purpose: String, keyID: String) -> String? { key(keyID).map { Self.derive(purpose, $0) } }

    private static func derive(_ purpose: String, _ key: SymmetricKey) -> String {
        let derived = HKDF<SHA256>.deriveKey(inputKeyMaterial: key, info: Data(purpose.utf8), outputByteCount: 32)
        return derived.withUnsafeBytes { Hex.text($0) }
    }
}
