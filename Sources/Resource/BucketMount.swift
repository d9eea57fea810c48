/// An object store mounted into a worker: `STORE[:PREFIX]=/PATH[:rw]`. Without `:rw` it can only be read.
package struct BucketMount: Sendable, Equatable {
    package var store: String
    /// Below the store's own prefix; without slashes at its ends.
    package var prefix: String
    package var path: String
    package var isWritable: Bool

    /// Folders of a container that must stay what they are.
    private static let taken = ["/proc", "/sys", "/dev", "/runpod-volume"]

    package init(_ text: String) throws(RoostError) {
        let malformed = RoostError(
            .invalid, "field 'bucketMounts': got '\(text.prefix(120))'; allowed: STORE[:PREFIX]=/PATH[:rw], as 'models:llama=/models'")
        guard let equals = text.firstIndex(of: "=") else { throw malformed }
        let source = text[..<equals].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        var target = text[text.index(after: equals)...]
        isWritable = target.hasSuffix(":rw")
        if isWritable || target.hasSuffix(":ro") { target = target.dropLast(3) }
        while target.count > 1, target.hasSuffix("/") { target = target.dropLast() }
        let parts = target.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        guard let name = source.first, Identifier.isSafe(String(name)), target.hasPrefix("/"), target.utf8.count <= 512,
            parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }),
            target.unicodeScalars.allSatisfy({ $0.value > 0x1F && $0.value != 0x7F && $0 != "," })
        else { throw malformed }
        store = String(name)
        prefix = source.count > 1 ? source[1].split(separator: "/").joined(separator: "/") : ""
        path = String(target)
        guard !Self.taken.contains(where: { path == $0 || path.hasPrefix($0 + "/") }) else {
            throw RoostError(.invalid, "field 'bucketMounts': \(path) belongs to the container itself")
        }
    }
}
