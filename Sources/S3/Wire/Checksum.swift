import Crypto

/// The checksums S3 clients send and ask for, computed as bytes pass.
package enum ChecksumAlgorithm: String, Sendable, CaseIterable {
    case crc32 = "CRC32"
    case crc32c = "CRC32C"
    case crc64nvme = "CRC64NVME"
    case sha1 = "SHA1"
    case sha256 = "SHA256"

    /// `x-amz-checksum-…`
    package var header: String { "x-amz-checksum-" + rawValue.lowercased() }
    /// `<ChecksumCRC32>` and so on.
    package var element: String { "Checksum" + rawValue }

    /// The checksum of two pieces in a row from the checksums of each. CRCs alone can do that.
    package func combine(_ first: [UInt8], _ second: [UInt8], secondLength: Int64) -> [UInt8] {
        switch self {
        case .crc32: CyclicRedundancyCheck.Kind.crc32.combine(first, second, secondLength)
        case .crc32c: CyclicRedundancyCheck.Kind.crc32c.combine(first, second, secondLength)
        case .crc64nvme: CyclicRedundancyCheck.Kind.crc64nvme.combine(first, second, secondLength)
        case .sha1, .sha256: second
        }
    }

    package var isCombinable: Bool { self != .sha1 && self != .sha256 }
}

/// One running checksum.
package struct Checksum: Sendable {
    private enum State: Sendable {
        case crc(CyclicRedundancyCheck)
        case sha1(Insecure.SHA1)
        case sha256(SHA256)
    }

    package let algorithm: ChecksumAlgorithm
    private var state: State

    package init(_ algorithm: ChecksumAlgorithm) {
        self.algorithm = algorithm
        state =
            switch algorithm {
            case .crc32: .crc(CyclicRedundancyCheck(.crc32))
            case .crc32c: .crc(CyclicRedundancyCheck(.crc32c))
            case .crc64nvme: .crc(CyclicRedundancyCheck(.crc64nvme))
            case .sha1: .sha1(Insecure.SHA1())
            case .sha256: .sha256(SHA256())
            }
    }

    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        switch state {
        case .crc(var crc):
            crc.update(bytes)
            state = .crc(crc)
        case .sha1(var hash):
            hash.update(bufferPointer: bytes)
            state = .sha1(hash)
        case .sha256(var hash):
            hash.update(bufferPointer: bytes)
            state = .sha256(hash)
        }
    }

    /// The value, most significant byte first, as its header carries it in base64.
    package var value: [UInt8] {
        switch state {
        case .crc(let crc): crc.value
        case .sha1(let hash): Array(hash.finalize())
        case .sha256(let hash): Array(hash.finalize())
        }
    }
}

/// Reflected CRCs of 32 and 64 bits, eight bytes at a step.
struct CyclicRedundancyCheck: Sendable {
    /// A polynomial with its tables, made once.
    struct Kind: Sendable {
        let bytes: Int
        /// Eight tables of 256: entry `256 * n + b` is the CRC of byte `b` followed by `n` zeros.
        let tables: [UInt64]

        static let crc32 = Kind(polynomial: 0xEDB8_8320, bytes: 4)
        static let crc32c = Kind(polynomial: 0x82F6_3B78, bytes: 4)
        static let crc64nvme = Kind(polynomial: 0x9A6C_9329_AC4B_C9B5, bytes: 8)

        private let polynomial: UInt64

        /// Appending a zero bit is a linear map of the CRC's bits; squaring the map doubles the zeros.
        func combine(_ first: [UInt8], _ second: [UInt8], _ secondLength: Int64) -> [UInt8] {
            func times(_ matrix: [UInt64], _ vector: UInt64) -> UInt64 {
                matrix.indices.reduce(0) { vector >> UInt64($1) & 1 == 1 ? $0 ^ matrix[$1] : $0 }
            }
            func number(_ value: [UInt8]) -> UInt64 { value.suffix(bytes).reduce(0) { $0 << 8 | UInt64($1) } }
            var matrix = [polynomial] + (0..<(bytes * 8 - 1)).map { UInt64(1) << UInt64($0) }
            // From one bit to one byte.
            for _ in 0..<3 { matrix = matrix.map { times(matrix, $0) } }
            var crc = number(first)
            var length = secondLength
            while length > 0 {
                if length & 1 == 1 { crc = times(matrix, crc) }
                matrix = matrix.map { times(matrix, $0) }
                length >>= 1
            }
            crc ^= number(second)
            return (0..<bytes).reversed().map { UInt8(truncatingIfNeeded: crc >> UInt64($0 * 8)) }
        }

        private init(polynomial: UInt64, bytes: Int) {
            self.polynomial = polynomial
            self.bytes = bytes
            var tables = (0..<256).map { index in
                (0..<8).reduce(UInt64(index)) { value, _ in value & 1 == 1 ? value >> 1 ^ polynomial : value >> 1 }
            }
            for index in 256..<2_048 {
                let previous = tables[index - 256]
                tables.append(previous >> 8 ^ tables[Int(previous & 0xFF)])
            }
            self.tables = tables
        }
    }

    private let kind: Kind
    private var state: UInt64

    init(_ kind: Kind) {
        self.kind = kind
        state = kind.bytes == 8 ? .max : UInt64(UInt32.max)
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        kind.tables.withUnsafeBufferPointer { tables in
            var crc = state
            var offset = 0
            while offset + 8 <= bytes.count {
                crc ^= UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
                var next: UInt64 = 0
                for place in 0..<8 { next ^= tables[(7 - place) * 256 + Int(crc >> UInt64(place * 8) & 0xFF)] }
                crc = next
                offset += 8
            }
            while offset < bytes.count {
                crc = crc >> 8 ^ tables[Int((crc ^ UInt64(bytes[offset])) & 0xFF)]
                offset += 1
            }
            state = crc
        }
    }

    var value: [UInt8] { (0..<kind.bytes).reversed().map { UInt8(truncatingIfNeeded: ~state >> UInt64($0 * 8)) } }
}
