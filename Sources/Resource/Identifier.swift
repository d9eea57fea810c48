/// Ids as RunPod makes them: lower-case letters and digits, 14 for endpoints and workers, 10 for the rest.
package enum Identifier {
    /// Whether a character stands in any file's name as it is: ASCII letters and digits, dot, dash and underscore.
    package static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
        scalar.isASCII && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar) || "._-".unicodeScalars.contains(scalar))
    }

    /// Path words under `/v2/` that belong to the management API, so no endpoint may be called so.
    package static let reserved: Set<String> = [
        "serverless", "templates", "networkvolumes", "registries", "catalog", "billing", "pods", "account", "clusters",
    ]

    package static func make(length: Int) -> String {
        let alphabet = Array("abcdefghijklmnopqrstuvwxyz0123456789".utf8)
        var generator = SystemRandomNumberGenerator()
        let bytes = (0..<length).map { _ in alphabet.randomElement(using: &generator) ?? UInt8(ascii: "a") }
        let text = String(decoding: bytes, as: UTF8.self)
        return reserved.contains(text) ? make(length: length) : text
    }

    /// A version 4 UUID in lower case.
    package static func uuid() -> String {
        var generator = SystemRandomNumberGenerator()
        var high = generator.next()
        var low = generator.next()
        high = (high & 0xFFFF_FFFF_FFFF_0FFF) | 0x4000
        low = (low & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000
        let digits = hex(high) + hex(low)
        var out: [UInt8] = []
        for (index, digit) in digits.utf8.enumerated() {
            if [8, 12, 16, 20].contains(index) { out.append(UInt8(ascii: "-")) }
            out.append(digit)
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// A secret of 256 bits in hexadecimal.
    package static func secret() -> String {
        var generator = SystemRandomNumberGenerator()
        return (0..<4).map { _ in hex(generator.next()) }.joined()
    }

    /// Whether `text` could be an id or a name of ours: nothing that means something in a path.
    package static func isSafe(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 64
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }

    private static func hex(_ value: UInt64) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: 16 - text.utf8.count) + text
    }
}
