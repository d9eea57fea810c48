// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [.enableUpcomingFeature("ExistentialAny"), .treatAllWarnings(as: .error)]
// An async function runs where its caller does: what an actor hands to the store keeps its order.
let ordered = strict + [.enableUpcomingFeature("NonisolatedNonsendingByDefault")]

let package = Package(
    name: "roost",
    products: [
        .executable(name: "roost", targets: ["roost"]),
        .executable(name: "roost-monitor", targets: ["roost-monitor"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2"),
    ],
    targets: [
        // C shims for system calls Glibc does not show to Swift.
        .target(name: "CLinux"),
        // Value types, limits, errors, pure rules; no I/O.
        .target(name: "Resource", swiftSettings: ordered),
        // Files, loop devices, filesystems, mounts.
        .target(
            name: "Disk",
            dependencies: ["CLinux", "Resource", .product(name: "Subprocess", package: "swift-subprocess")],
            swiftSettings: ordered
        ),
        // TLS by the system's OpenSSL, for the S3 door's blocking sockets.
        .target(name: "CTLS", linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        // The S3 door: the wire (pure), objects over a directory tree, the listener.
        .target(
            name: "S3",
            dependencies: [
                "CLinux", "CTLS", "Disk", "Resource",
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            swiftSettings: ordered
        ),
        // Images, container volumes, the OCI runtime.
        .target(
            name: "Containers",
            dependencies: [
                "CLinux", "Disk", "Resource",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: ordered
        ),
        // Services, scaler, placement, the store.
        .target(
            name: "ControlPlane",
            dependencies: [
                "CLinux", "Containers", "Disk", "Resource", "S3",
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: ordered
        ),
        // HTTP: management API, job API, worker API.
        .target(
            name: "Gateway",
            dependencies: [
                "ControlPlane", "Disk", "Resource", "S3",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        // `roost serve` and the command line.
        .executableTarget(
            name: "roost",
            dependencies: [
                "ControlPlane", "Containers", "Disk", "Gateway", "Resource", "S3",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        // The small process that stays with each container: drains its output, notes its end.
        .executableTarget(name: "roost-monitor", dependencies: ["CLinux"], swiftSettings: strict),
        .testTarget(name: "ResourceTests", dependencies: ["Resource"], swiftSettings: ordered),
        .testTarget(name: "S3Tests", dependencies: ["S3", "Disk", "Resource"], swiftSettings: ordered),
        .testTarget(name: "DiskTests", dependencies: ["Disk", "Resource"], swiftSettings: ordered),
        .testTarget(
            name: "ControlPlaneTests",
            dependencies: ["ControlPlane", "Containers", "Disk", "Resource", .product(name: "Logging", package: "swift-log")],
            swiftSettings: ordered
        ),
    ],
    swiftLanguageModes: [.v6]
)
