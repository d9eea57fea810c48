import ControlPlane
import Disk
import Logging
import Resource
import S3
import ServiceLifecycle

/// The S3 door as a part of the server: listens, sweeps, stops.
package struct S3Gateway: Service {
    private let door: S3Door
    private let buckets: VolumeBuckets
    private let settings: S3Settings
    private let grace: Int

    /// Binds the listener. Throws where the address is taken or the certificate is not one.
    package init(_ plane: Plane, log: Logger) throws {
        settings = plane.configuration.s3
        grace = plane.configuration.shutdownGraceSeconds
        buckets = VolumeBuckets(plane: plane)
        let configuration = DoorConfiguration(
            host: settings.host, port: settings.port, certificate: settings.certificate, privateKey: settings.privateKey,
            domains: settings.domains, maximumConnections: settings.connections, silenceSeconds: settings.silenceSeconds,
            abandonedUploadSeconds: Int64(settings.abandonedUploadSeconds))
        do { door = try S3Door(configuration, directory: buckets, log: log) } catch let error as DiskError {
            throw RoostError(.conflict, "the S3 door: \(error); choose another --s3-listen, or 'off'")
        }
        plane.places.open(DoorAddress(own: url, published: settings.publicURL ?? url))
    }

    /// Where clients on this machine reach it.
    package var url: String { url(authority: nil) }

    /// Where a client reaches it that called the API by `authority`, its `Host`: a door that listens on all addresses is
    /// wherever the API was found.
    func url(authority: String?) -> String {
        var base = Plane.apiBase(host: settings.host, port: door.port)
        if let authority, ["0.0.0.0", "::"].contains(settings.host), let name = Self.name(authority) {
            base = "http://\(name):\(door.port)"
        }
        return door.isSecure ? base.replacing("http://", with: "https://", maxReplacements: 1) : base
    }

    /// The host of an authority, without its port; nil for what is no host.
    private static func name(_ authority: String) -> Substring? {
        let end = authority.lastIndex(of: ":")
        let isPort = end.map { !authority[$0...].contains("]") } ?? false
        let name = isPort ? authority[..<(end ?? authority.endIndex)] : authority[...]
        let isHost = !name.isEmpty && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || ".-:[]_".contains($0)) }
        return isHost ? name : nil
    }

    /// Multipart uploads of a volume that wait for their completion.
    func uploads(of volume: NetworkVolume) -> JSON {
        guard volume.state == .ready, let bucket = buckets.bucket(volume.id) else { return ["count": 0, "bytes": 0] }
        let totals = door.uploads(of: bucket)
        return ["count": .int(totals.count), "bytes": .int(Int(totals.bytes))]
    }

    package func run() async throws {
        let (door, grace) = (door, grace)
        let pause = Duration.seconds(min(3_600, max(1, settings.abandonedUploadSeconds / 4)))
        await cancelWhenGracefulShutdown {
            while (try? await Task.sleep(for: pause)) != nil { _ = try? await Blocking.run { door.sweep(isStart: false) } }
        }
        _ = try? await Blocking.run { door.stop(grace: grace) }
    }
}
