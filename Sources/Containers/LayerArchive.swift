import Disk
import Resource

/// One layer of an image as it came, a tar archive, on its way to become an EROFS file. Whatever it holds, it takes no more of the disk
/// than it is given: a megabyte of it may unpack to terabytes.
struct LayerArchive: Sendable {
    let path: String
    /// A folder for what lies between.
    let work: String

    private var tree: String { work + "/tree" }

    /// Unpacks the layer $1 into the folder $2 and prints the SHA-256 of its uncompressed bytes, of which $4 may come; $3 is for what lies
    /// between. What follows the archive's end is hashed too, though tar does not wait for it. GNU tar refuses `..`, strips leading slashes and never follows a link it unpacked out of the folder.
    private static let unpacking = """
        case $(od -An -tx1 -N4 "$1" | tr -d ' ') in 1f8b*) open='gzip -dc' ;; 28b52ffd) open='zstd -dcq' ;; *) open=cat ;; esac
        rm -f "$3/pipe"; mkfifo "$3/pipe" || exit
        sha256sum <"$3/pipe" & hash=$!
        { $open <"$1" || : >"$3/broken"; } |
            { head -c "$4"; test "$(head -c 1 | wc -c)" = 0 || : >"$3/large"; } |
            tee --output-error=warn-nopipe "$3/pipe" |
            tar --extract --file - --directory "$2" --numeric-owner --preserve-permissions --same-owner --xattrs \\
                --xattrs-include=security.capability --delay-directory-restore
        code=$?
        wait $hash
        if test -e "$3/large"; then exit 90; fi
        test ! -e "$3/broken" && exit $code
        """
    private static let tooLarge = 90
    private static let slack: Int64 = 4 << 20

    /// Makes `file` of it. `digest` is what its uncompressed bytes must hash to; nil where that was made sure of before. `room` is
    /// asked for the bytes that it may take, once for its files and once for what they become.
    func pack(into file: String, digest: String?, room: () throws -> Int64) async throws {
        try Files.makeDirectories(tree, mode: 0o755)
        let unpacked = try await unpack(room: room())
        // An image could call any bytes by the digest of another image's layer, and be mounted in its place.
        if let digest, !unpacked.hasPrefix(digest) {
            throw RoostError(.invalid, "not an image: a layer's content has the SHA-256 \(unpacked.prefix(64)), not \(digest)")
        }
        let tree = tree
        try await Blocking.run { try Whiteouts.convert(tree) }
        try await compose(file, room: room())
        try await Command.run("rm", ["-rf", tree])
    }

    private func unpack(room: Int64) async throws -> String {
        let output = try await Command.output("/bin/sh", ["-c", Self.unpacking, "sh", path, tree, work, String(room)])
        guard output.code != Self.tooLarge else { throw Self.noRoom(room) }
        guard output.code == 0 else {
            let isFull = output.stderr.contains("No space left on device")
            throw RoostError(isFull ? .noSpace : .invalid, "cannot unpack a layer: \(output.stderr.prefix(500))")
        }
        return output.stdout
    }

    /// Times of change stay as they are in the archive: Python compiles every module anew, at every start, whose time is not the one
    /// that its `.pyc` was made for. A sparse file takes nothing until it is in the image: the shell's limit, in blocks of 512 bytes,
    /// holds for that.
    private func compose(_ file: String, room: Int64) async throws {
        let script = "ulimit -f \"$1\"; shift; exec mkfs.erofs --quiet \"$@\""
        let output = try await Command.output("/bin/sh", ["-c", script, "sh", String(room / 512), file, tree])
        guard output.code == 0 else {
            // However it words it, or the kernel ended it for it: it came up to its limit, or to the disk's.
            let (size, free) = (try? Int64(Files.status(file).st_size), try? Files.space(at: work).free)
            if size ?? 0 > room - Self.slack || free ?? .max < Self.slack { throw Self.noRoom(room) }
            throw DiskError("mkfs.erofs", path: file, detail: "exit code \(output.code): \(output.stderr.suffix(500))")
        }
    }

    private static func noRoom(_ room: Int64) -> RoostError {
        RoostError(.noSpace, "the disk is too full for an image: a layer takes more than the \(room >> 20) MiB there is room for")
    }
}
