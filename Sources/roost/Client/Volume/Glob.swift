/// Shell patterns: `*` and `?` within a name, `**` across folders, `[a-z]` and `[!a-z]`.
enum Glob {
    static func isPattern(_ text: String) -> Bool { text.contains { "*?[".contains($0) } }

    /// The part before the first special character, up to its last slash: where a listing begins.
    static func base(_ pattern: String) -> String {
        let plain = pattern.prefix { !"*?[".contains($0) }
        return plain.lastIndex(of: "/").map { String(plain[...$0]) } ?? ""
    }

    static func matches(_ pattern: String, _ text: String) -> Bool { matches(Array(pattern)[...], Array(text)[...]) }

    private static func matches(_ pattern: ArraySlice<Character>, _ text: ArraySlice<Character>) -> Bool {
        guard let first = pattern.first else { return text.isEmpty }
        let rest = pattern.dropFirst()
        switch first {
        case "*":
            let crosses = rest.first == "*"
            let after = crosses ? rest.dropFirst() : rest
            var remaining = text
            while true {
                if matches(after, remaining) { return true }
                guard let next = remaining.popFirst(), crosses || next != "/" else { return false }
            }
        case "?": return text.first.map { $0 != "/" } ?? false ? matches(rest, text.dropFirst()) : false
        case "[":
            guard let end = rest.dropFirst().firstIndex(of: "]"), let character = text.first, character != "/" else { return false }
            return isIn(rest[..<end], character) && matches(pattern[(end + 1)...], text.dropFirst())
        default: return text.first == first && matches(rest, text.dropFirst())
        }
    }

    private static func isIn(_ set: ArraySlice<Character>, _ character: Character) -> Bool {
        let isNegated = set.first == "!" || set.first == "^"
        var members = isNegated ? set.dropFirst() : set
        var found = false
        while let low = members.popFirst() {
            if members.first == "-", let high = members.dropFirst().first {
                members = members.dropFirst(2)
                found = found || (low <= high && (low...high).contains(character))
            } else {
                found = found || low == character
            }
        }
        return found != isNegated
    }
}
