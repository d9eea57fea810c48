import Glibc
import Resource

/// What people read: tables on stdout, errors on stderr.
enum Terminal {
    static func error(_ text: String) { write("roost: \(text)\n") }

    static func prompt(_ text: String) { write(text) }

    private static func write(_ text: String) {
        let bytes = Array(text.utf8)
        _ = Glibc.write(2, bytes, bytes.count)
    }

    static var isInteractive: Bool { isatty(2) == 1 }

    /// One line on stderr that replaces the one before; nothing when nobody watches.
    static func status(_ text: String) {
        guard isInteractive else { return }
        write("\r\u{1B}[2K\(text)")
    }

    static func clearStatus() { if isInteractive { write("\r\u{1B}[2K") } }

    /// Rows as a table with aligned columns.
    static func table(_ header: [String], _ rows: [[String]]) {
        var widths = header.map(\.count)
        for row in rows {
            for (index, cell) in row.enumerated() where index < widths.count { widths[index] = max(widths[index], cell.count) }
        }
        for row in [header] + rows {
            let cells = zip(row, widths).map { cell, width in cell + String(repeating: " ", count: width - cell.count) }
            var line = cells.joined(separator: "  ")
            while line.last == " " { line.removeLast() }
            print(line)
        }
    }

    /// A JSON value as the cell of a table.
    static func cell(_ value: JSON?) -> String {
        switch value {
        case nil, .null: "-"
        case .string(let text): text.isEmpty ? "-" : text
        case .array(let values): values.isEmpty ? "-" : values.map { cell($0) }.joined(separator: ",")
        case .some(let value): value.text
        }
    }
}
