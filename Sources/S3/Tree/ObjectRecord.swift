import CLinux
import Disk
import Glibc
import Resource

/// What S3 knows about an object beyond its bytes: one extended attribute of the file, written before it is published.
///
/// Format: `1 ETAG SIZE MTIME-NS`, a newline, and a JSON object. Of directories: `1 dir` and `made` (ours, goes when it
/// is empty) or `kept` (put as an object of its own). The record counts while size and time are still the file's; a
/// worker may forge or copy it, so it describes and never authorises, and what could break an answer's head is refused.
package struct ObjectRecord: Sendable, Equatable {
    /// A checksum as its header carries it: base64, with `-N` when it is one of N parts' checksums.
    package struct StoredChecksum: Sendable, Equatable {
        package var algorithm: ChecksumAlgorithm
        package var value: String

        package init(algorithm: ChecksumAlgorithm, value: String) {
            self.algorithm = algorithm
            self.value = value
        }

        package var type: String { value.contains("-") ? "COMPOSITE" : "FULL_OBJECT" }
    }

    package static let attribute = "user.s3"
    /// Amazon's bound of user metadata, names and values together.
    package static let maximumMetadata = 2_048
    static let maximumBytes = 12 << 10
    /// Headers kept with an object and returned with it.
    package static let keptHeaders = [
        "content-type", "content-encoding", "content-language", "content-disposition", "cache-control", "expires",
    ]

    /// Nil where none was computed: the state's own is used.
    package var etag: String?
    package var size: Int64 = 0
    package var modifiedNs: Int64 = 0
    package var headers: [String: String] = [:]
    /// Without `x-amz-meta-`, in lower case.
    package var metadata: [String: String] = [:]
    package var tags = Tags()
    package var checksum: StoredChecksum?
    /// Sizes of the parts of a multipart object, as `SIZExCOUNT` joined by commas.
    package var parts: String?
    /// The multipart upload it came from.
    package var upload: String?

    package init(etag: String? = nil) { self.etag = etag }

    package var bytes: [UInt8] {
        let tagList: JSON? = tags.list.isEmpty ? nil : .array(tags.list.flatMap { [.string($0.key), .string($0.value)] })
        let json = JSON.compact([
            "h": headers.isEmpty ? nil : JSON(map: headers), "m": metadata.isEmpty ? nil : JSON(map: metadata), "t": tagList,
            "a": checksum.map { .string($0.algorithm.rawValue) }, "c": checksum.map { .string($0.value) },
            "p": parts.map { .string($0) }, "u": upload.map { .string($0) },
        ])
        return Array("1 \(etag ?? "-") \(size) \(modifiedNs)\n".utf8) + json.bytes
    }

    /// The head of a record: enough for a listing.
    struct Head: Equatable {
        var etag: String?
        var size: Int64
        var modifiedNs: Int64

        init?(_ line: ArraySlice<UInt8>) {
            let words = line.split(separator: 0x20).map { String(decoding: $0, as: UTF8.self) }
            guard words.count == 4, words[0] == "1", let size = Int64(words[2]), let modified = Int64(words[3]) else { return nil }
            let isPlain = words[1].utf8.count <= 64 && words[1].utf8.allSatisfy { isxdigit(Int32($0)) != 0 || $0 == UInt8(ascii: "-") }
            guard isPlain else { return nil }
            etag = words[1] == "-" ? nil : words[1]
            self.size = size
            modifiedNs = modified
        }
    }

    /// Nil for what is no record of ours.
    package init?(_ bytes: [UInt8]) {
        guard let newline = bytes.firstIndex(of: 0x0A), let head = Head(bytes[..<newline]),
            let json = try? JSONReader.parse(Array(bytes[(newline + 1)...]))
        else { return nil }
        (etag, size, modifiedNs) = (head.etag, head.size, head.modifiedNs)
        guard let headers = Self.plain(json["h"]), let metadata = Self.plain(json["m"]) else { return nil }
        self.headers = headers.filter { Self.keptHeaders.contains($0.key) }
        self.metadata = metadata.filter { Self.isName($0.key) }
        let words = (json["t"]?.array ?? []).compactMap(\.string)
        let pairs = stride(from: 0, to: words.count - words.count % 2, by: 2).map { Tags.Tag(key: words[$0], value: words[$0 + 1]) }
        tags = (try? Tags(pairs)) ?? Tags()
        if let algorithm = json["a"]?.string.flatMap(ChecksumAlgorithm.init), let value = json["c"]?.string, Self.isPlain(value) {
            checksum = StoredChecksum(algorithm: algorithm, value: value)
        }
        parts = json["p"]?.string
        upload = json["u"]?.string
    }

    private static func plain(_ json: JSON?) -> [String: String]? {
        guard let members = json?.members else { return [:] }
        guard members.allSatisfy({ isPlain($0.value.string ?? "") }) else { return nil }
        return Dictionary(members.map { ($0.key, $0.value.string ?? "") }, uniquingKeysWith: { $1 })
    }

    /// No control characters: the value goes into a header.
    static func isPlain(_ text: String) -> Bool { text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F } }

    static func isName(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: ":") }
    }
}

extension ObjectRecord {
    /// The record on an open file, whether it is still true or not.
    static func read(_ descriptor: Int32) -> ObjectRecord? { raw(descriptor).flatMap(ObjectRecord.init) }

    private static func raw(_ descriptor: Int32) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: maximumBytes)
        let count = cl_get_attribute(descriptor, attribute, &buffer, buffer.count)
        return count > 0 ? Array(buffer[..<count]) : nil
    }

    func write(to descriptor: Int32) throws {
        let bytes = bytes
        guard bytes.count <= Self.maximumBytes else {
            throw S3Error(.metadataTooLarge, "headers, metadata and tags of one object are limited to \(Self.maximumBytes) bytes")
        }
        try checkRaw(cl_set_attribute(descriptor, Self.attribute, bytes, bytes.count), "fsetxattr", Self.attribute)
    }
}

/// What S3 made of a directory.
enum DirectoryMark: String {
    /// Made on the way to a key: goes with its last file.
    case made = "1 dir made"
    /// Put as an object `name/`: stays.
    case kept = "1 dir kept"

    static func read(_ descriptor: Int32) -> DirectoryMark? {
        var buffer = [UInt8](repeating: 0, count: 32)
        let count = cl_get_attribute(descriptor, ObjectRecord.attribute, &buffer, buffer.count)
        return count > 0 ? DirectoryMark(rawValue: String(decoding: buffer[..<count], as: UTF8.self)) : nil
    }

    func write(to descriptor: Int32) throws(DiskError) {
        let bytes = Array(rawValue.utf8)
        try checkRaw(cl_set_attribute(descriptor, ObjectRecord.attribute, bytes, bytes.count), "fsetxattr", ObjectRecord.attribute)
    }
}

/// How an object stands right now: the file's own state, with the ETag that goes with it.
package struct ObjectState: Sendable, Equatable {
    package var size: Int64
    package var modifiedNs: Int64
    package var etag: String

    package var modified: Int64 { Int64((Double(modifiedNs) / 1_000_000_000).rounded(.down)) }

    /// A file whose bytes are not what S3 wrote gets an ETag from its state: it costs no reading, changes with every
    /// change, and its `-0` keeps clients from taking it for an MD5.
    init(_ info: stat, record: ObjectRecord.Head?) {
        size = Int64(info.st_size)
        modifiedNs = info.modifiedNs
        if let record, let known = record.etag, record.size == size, record.modifiedNs == modifiedNs {
            etag = known
        } else {
            etag = Self.etag(inode: UInt64(info.st_ino), size: UInt64(bitPattern: size), modifiedNs: UInt64(bitPattern: modifiedNs))
        }
    }

    private static func etag(inode: UInt64, size: UInt64, modifiedNs: UInt64) -> String {
        // splitmix64's finaliser over the three, twice with different seeds: nobody has a reason to collide them.
        func mix(_ seed: UInt64) -> String {
            var state = seed
            for word in [inode, size, modifiedNs] {
                state = (state ^ word) &+ 0x9E37_79B9_7F4A_7C15
                state = (state ^ state >> 30) &* 0xBF58_476D_1CE4_E5B9
                state = (state ^ state >> 27) &* 0x94D0_49BB_1331_11EB
                state ^= state >> 31
            }
            let text = String(state, radix: 16)
            return String(repeating: "0", count: 16 - text.utf8.count) + text
        }
        return mix(0x726F_6F73_7400_0001) + mix(0x726F_6F73_7400_0002) + "-0"
    }
}
