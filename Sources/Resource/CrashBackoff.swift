/// Slows down the starts of an endpoint whose workers die before they are of use.
package struct CrashBackoff: Sendable, Equatable {
    package static let firstDelay: Milliseconds = 1_000
    package static let longestDelay: Milliseconds = 60_000

    package private(set) var failures = 0
    package private(set) var until: Milliseconds?
    /// The last death, for people.
    package private(set) var lastReason: String?

    package init() {}

    /// A worker ended before its first poll, or could not be made.
    package mutating func failed(reason: String, at now: Milliseconds) {
        failures += 1
        let shift = min(failures - 1, 10)
        until = now + min(Self.firstDelay << shift, Self.longestDelay)
        lastReason = reason
    }

    /// The reason a waiting job shows. Nil while nothing failed.
    package func explanation(at now: Milliseconds) -> String? {
        guard failures > 0, let lastReason else { return nil }
        let wait = max(0, ((until ?? now) - now + 999) / 1_000)
        return "crash loop: \(failures) failed starts in a row, next in \(wait) s; last: \(lastReason)"
    }
}
