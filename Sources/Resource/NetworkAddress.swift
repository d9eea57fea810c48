/// Rules about hosts that others name.
package enum NetworkAddress {
    /// Whether a host, without its port, is link-local or a cloud's metadata service: addresses at which machines trust
    /// whoever asks, and no store is.
    package static func isLinkLocal(_ host: String) -> Bool {
        var name = host.lowercased()
        if name.hasPrefix("["), let end = name.firstIndex(of: "]") { name = String(name[name.index(after: name.startIndex)..<end]) }
        if name.hasPrefix("::ffff:") { name = String(name.dropFirst(7)) }
        while name.hasSuffix(".") { name.removeLast() }
        return name.hasPrefix("169.254.") || (name.hasPrefix("fe") && name.contains(":") && "89ab".contains(name.dropFirst(2).first ?? "0"))
            || name == "metadata.google.internal" || name == "fd00:ec2::254"
    }

    package static func isLoopback(_ host: String) -> Bool {
        ["localhost", "::1", "0.0.0.0", "::", ""].contains(host.lowercased()) || host.hasPrefix("127.") || host.hasPrefix("::ffff:127.")
    }
}
