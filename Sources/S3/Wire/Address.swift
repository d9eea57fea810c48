/// Which bucket and key a request means: in the path, or with the bucket in front of one of our own host names.
package struct Address: Sendable, Equatable {
    package var bucket: String?
    /// Decoded once; empty for the bucket itself.
    package var key: [UInt8]
    /// Whether the bucket came with the host name.
    package var isVirtualHost = false

    /// `domains` are the names under which buckets are hosts, in lower case.
    package init(_ head: RequestHead, domains: [String]) throws(S3Error) {
        let slash = UInt8(ascii: "/")
        guard head.rawPath.first == slash, let path = PercentEncoding.decode(head.rawPath.dropFirst()) else {
            throw S3Error(.invalidRequest, "the path is not a path")
        }
        if let bucket = Self.bucket(ofHost: head.header("host") ?? "", domains: domains) {
            self.bucket = bucket
            key = path
            isVirtualHost = true
            return
        }
        let end = path.firstIndex(of: slash) ?? path.endIndex
        guard let name = String(validating: path[..<end], as: UTF8.self) else {
            throw S3Error(.invalidBucketName, "the bucket is not UTF-8")
        }
        bucket = name.isEmpty ? nil : name
        key = Array(path[end...].dropFirst())
        guard !name.isEmpty || key.isEmpty else { throw S3Error(.invalidBucketName, "the path has no bucket") }
    }

    private static func bucket(ofHost host: String, domains: [String]) -> String? {
        var name = host.lowercased()[...]
        if let colon = name.lastIndex(of: ":"), name[colon...].dropFirst().allSatisfy(\.isNumber) { name = name[..<colon] }
        for domain in domains where name.hasSuffix("." + domain) && name.count > domain.count + 1 {
            return String(name.dropLast(domain.count + 1))
        }
        return nil
    }
}
