import Crypto

/// Adds up what a multipart object is: its ETag, its checksum, the sizes of its parts.
struct Assembly {
    private let upload: Upload
    private var md5 = Insecure.MD5()
    private var count = 0
    private var sizes: [(size: Int64, count: Int)] = []
    /// Of the parts' checksums, one after the other.
    private var composite: Checksum?
    /// Of all bytes so far.
    private var whole: [UInt8]?
    private var isChecksummed: Bool

    init(upload: Upload) {
        self.upload = upload
        isChecksummed = upload.algorithm != nil
        composite = upload.algorithm.map(Checksum.init)
    }

    mutating func add(_ part: UploadPart, _ item: VolumeTree.PartList.Item) throws(S3Error) {
        count += 1
        md5.update(data: Self.bytes(hex: part.etag))
        if let last = sizes.last, last.size == part.size {
            sizes[sizes.count - 1].count += 1
        } else {
            sizes.append((part.size, 1))
        }
        if let given = item.checksum, given != part.checksum?.value {
            throw S3Error(.invalidPart, "part \(item.number) has another checksum")
        }
        guard let algorithm = upload.algorithm, isChecksummed else { return }
        guard let stored = part.checksum, stored.algorithm == algorithm, let value = Base64.decode(stored.value) else {
            // A part that was copied has none, so the whole has none either.
            isChecksummed = false
            return
        }
        value.withUnsafeBytes { composite?.update($0) }
        whole = whole.map { algorithm.combine($0, value, secondLength: part.size) } ?? value
    }

    func record(expected: String?) throws(S3Error) -> ObjectRecord {
        var record = upload.record
        record.etag = Signature.text(md5.finalize()) + "-\(count)"
        record.upload = upload.id
        let text = sizes.map { "\($0.size)x\($0.count)" }.joined(separator: ",")
        // Parts of all sizes: then partNumber cannot be served, and nothing else is lost.
        record.parts = text.utf8.count <= 1_024 ? text : nil
        guard isChecksummed, let algorithm = upload.algorithm, let composite, let whole else { return record }
        let value = upload.isFullObject ? Base64.encode(whole) : Base64.encode(composite.value) + "-\(count)"
        if let expected, expected != value, upload.isFullObject || expected.contains("-") {
            throw S3Error(.badDigest, "the checksum of the object is \(value), not \(expected)")
        }
        record.checksum = .init(algorithm: algorithm, value: value)
        return record
    }

    /// The bytes of an MD5 in hexadecimal; of another ETag, its text.
    private static func bytes(hex: String) -> [UInt8] {
        let digits = hex.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
        guard digits.count == 32, hex.utf8.count == 32 else { return Array(hex.utf8) }
        return stride(from: 0, to: 32, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    }
}
