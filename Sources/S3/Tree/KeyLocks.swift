import Disk

/// One lock for each of many names, from a fixed number: two names share one now and then, which only costs time.
final class KeyLocks: Sendable {
    private let stripes = (0..<256).map { _ in Locked(()) }

    func withLock<Value>(_ volume: String, _ name: String, _ body: () throws -> Value) rethrows -> Value {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in volume.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        let stripe = stripes[Int((hash ^ hash >> 32) % UInt64(stripes.count))]
        return try stripe.withLock { _ in try body() }
    }
}
