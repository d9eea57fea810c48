import Disk
import Glibc
import Resource

/// Keeps the server from being sent, by a URL of a client's, to where machines trust whoever comes from this one: link-local
/// addresses with their metadata services, and its own API. Configuration `allowPrivateStores` switches it off.
package final class NetworkGuard: Sendable {
    private let isOff: Bool
    private let port: Locked<Int>

    package init(allowsAll: Bool, apiPort: Int) { (isOff, port) = (allowsAll, Locked(apiPort)) }

    /// The API listens, on this port.
    package func listening(on port: Int) { self.port.withLock { $0 = port } }

    /// What can be said of a host without asking anybody for its addresses.
    package func check(host: String, port: Int, field: String) throws(RoostError) {
        guard !isOff else { return }
        if NetworkAddress.isLinkLocal(host) {
            throw RoostError(.invalid, "field '\(field)': \(host) is link-local; configuration 'allowPrivateStores' permits it")
        }
        if port == self.port.withLock({ $0 }), NetworkAddress.isLoopback(host) || Self.isOwn(host) {
            throw RoostError(.invalid, "field '\(field)': port \(port) is this server's API, not a store")
        }
    }

    /// The addresses of a host, each of them allowed. Whoever connects uses one of these, so that a name cannot mean one
    /// address here and another there.
    func addresses(of host: String, port: Int, field: String) async throws -> [String] {
        try check(host: host, port: port, field: field)
        let found = try await Blocking.run { Self.resolve(host) }
        guard !found.isEmpty else { throw RoostError(.invalid, "the name \(host) cannot be resolved") }
        for address in found { try check(host: address, port: port, field: field) }
        return found
    }

    private static func resolve(_ host: String) -> [String] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, nil, &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var found: [String] = []
        var next = list
        while let info = next {
            if let name = text(info.pointee.ai_addr, info.pointee.ai_addrlen) { found.append(name) }
            next = info.pointee.ai_next
        }
        return found
    }

    private static func text(_ address: UnsafePointer<sockaddr>?, _ length: socklen_t) -> String? {
        var buffer = [CChar](repeating: 0, count: 256)
        guard let address, getnameinfo(address, length, &buffer, socklen_t(buffer.count), nil, 0, NI_NUMERICHOST) == 0 else { return nil }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Whether an address is one of this machine's.
    private static func isOwn(_ host: String) -> Bool {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return false }
        defer { freeifaddrs(list) }
        var next = list
        while let info = next {
            if let address = info.pointee.ifa_addr, [AF_INET, AF_INET6].contains(Int32(address.pointee.sa_family)) {
                let length = Int32(address.pointee.sa_family) == AF_INET ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
                if text(address, socklen_t(length)) == host { return true }
            }
            next = info.pointee.ifa_next
        }
        return false
    }
}
