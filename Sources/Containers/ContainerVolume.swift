import Disk
import Glibc

/// A worker's own disk: a sparse file with an ext4 of exactly the size asked for, over which the image is laid.
///
/// Nothing on it outlives the worker, so it has no journal and no write barriers. Making one copies the few blocks
/// of an empty filesystem of that size, made once: about 1 ms, where mkfs takes 36.
package struct ContainerVolume: Sendable {
    /// A mounted container volume with the image below it.
    package struct Mounted: Sendable {
        /// The container's `/`.
        package var rootfs: String
        fileprivate var disk: String

        /// Gives up our side of the mounts. From then on only the worker's own namespace holds them, and the kernel
        /// undoes everything at its last process's end, whether or not the server still lives.
        package func handOver() throws {
            try Mount.remove(rootfs, lazily: true)
            try Mount.remove(disk, lazily: true)
        }
    }

    private let templates: String
    private let mounts: String

    package init(templates: String, mounts: String) {
        self.templates = templates
        self.mounts = mounts
    }

    /// Makes the empty filesystem of this size, unless it is there.
    package func prepareTemplate(bytes: Int64) async throws -> String {
        let template = "\(templates)/\(bytes).ext4"
        if Files.exists(template) { return template }
        let staged = "\(template).\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try Files.makeDirectories(templates)
        do {
            try await Blocking.run {
                _ = try Files.withDescriptor(staged, flags: O_RDWR | O_CREAT | O_EXCL) {
                    try check(ftruncate($0, Int(bytes)), "ftruncate", staged)
                }
            }
            // Metadata in front and unwritten inode tables: little to copy, little to give back.
            try await Command.run(
                "mkfs.ext4",
                [
                    "-q", "-F", "-m", "0", "-i", "32768", "-G", "256", "-O", "^has_journal,^resize_inode,flex_bg",
                    "-E", "lazy_itable_init=1,nodiscard,packed_meta_blocks=1,root_owner=0:0", staged,
                ])
            try check(rename(staged, template), "rename", template)
        } catch {
            unlink(staged)
            throw error
        }
        return template
    }

    /// Makes the disk in `file`, mounts it, and lays it over the image's layers.
    package func make(file: String, worker: String, template: String, layers: ImageStore.Layers) throws -> Mounted {
        let mounted = Mounted(rootfs: "\(mounts)/\(worker)/root", disk: "\(mounts)/\(worker)/disk")
        try Files.makeDirectories(mounted.rootfs, mode: 0o755)
        try Files.makeDirectories(mounted.disk, mode: 0o755)
        try Files.copySparse(template, to: file)
        let device = try LoopDevice.attach(file)
        defer { device.release() }
        do {
            try Mount.filesystem(device.path, at: mounted.disk, type: "ext4", options: "nobarrier,noinit_itable")
            try Files.makeDirectories(mounted.disk + "/upper", mode: 0o755)
            try Files.makeDirectories(mounted.disk + "/work", mode: 0o755)
            try Mount.overlay(
                lower: layers.names.reversed(), from: layers.folder, upper: mounted.disk + "/upper", work: mounted.disk + "/work",
                at: mounted.rootfs)
            return mounted
        } catch {
            // Why the cleaning failed would hide why the making did.
            try? mounted.handOver()
            throw error
        }
    }

    /// Removes whatever of a worker's disk is left, at any point of its life.
    package func wipe(file: String, worker: String) throws {
        try Mount.remove("\(mounts)/\(worker)/root", lazily: true)
        try Mount.remove("\(mounts)/\(worker)/disk", lazily: true)
        try Files.remove("\(mounts)/\(worker)")
        try Files.remove(file)
    }
}
