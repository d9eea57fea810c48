import Resource

/// Dates as HTTP writes them: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, IMF-fixdate).
package enum HTTPDate {
    private static let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    package static func text(_ seconds: Int64) -> String {
        // 2024-07-12T19:14:40.144Z, and 1970-01-01 was a Thursday.
        let iso = Array(Timestamp.text(max(0, min(seconds, 253_402_300_799)) * 1_000).utf8)
        func part(_ range: Range<Int>) -> String { String(decoding: iso[range], as: UTF8.self) }
        let month = months[(Int(part(5..<7)) ?? 1) - 1]
        let day = days[Int(max(0, seconds) / 86_400 % 7)]
        return "\(day), \(part(8..<10)) \(month) \(part(0..<4)) \(part(11..<19)) GMT"
    }

    /// Seconds since 1970; nil for anything but the one form that clients must send.
    package static func parse(_ text: String) -> Int64? {
        let words = text.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        guard words.count == 6, words[5] == "GMT", let month = months.firstIndex(of: words[2]) else { return nil }
        let clock = words[4].split(separator: ":").joined()
        let number = month + 1 < 10 ? "0\(month + 1)" : "\(month + 1)"
        return Signature.seconds("\(words[3])\(number)\(words[1])T\(clock)Z")
    }
}
