import Foundation
import GRDB
import Resource

extension SQLiteStore {
    package func save(starts: [String: [StartRecord]]) async throws {
        let rows = try starts.flatMap { endpoint, list in
            try list.map { (endpoint: endpoint, start: $0, body: try JSONEncoder().encode($0)) }
        }
        let endpoints = starts.keys.sorted()
        try await write { database in
            for row in rows {
                try database.cachedStatement(
                    sql: "INSERT INTO start (endpoint, at, worker, body) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body"
                ).execute(arguments: [row.endpoint, row.start.at, row.start.workerID, row.body])
            }
            for endpoint in endpoints {
                try database.cachedStatement(
                    sql: """
                        DELETE FROM start WHERE endpoint = ?1 AND at <
                            (SELECT at FROM start WHERE endpoint = ?1 ORDER BY at DESC LIMIT 1 OFFSET ?2)
                        """
                ).execute(arguments: [endpoint, Limits.keptStarts - 1])
            }
        }
    }

    package func starts() async throws -> [String: [StartRecord]] {
        let rows = try await read { database in
            try Row.fetchAll(database, sql: "SELECT endpoint, body FROM start ORDER BY endpoint, at")
                .map { (endpoint: $0["endpoint"] as String, body: $0["body"] as Data) }
        }
        var starts: [String: [StartRecord]] = [:]
        for row in rows {
            // Figures of another version are no reason not to start.
            guard let start = try? JSONDecoder().decode(StartRecord.self, from: row.body) else { continue }
            starts[row.endpoint, default: []].append(start)
        }
        return starts
    }

    package func removeStarts(of endpoint: String) async throws {
        try await write { database in
            try database.cachedStatement(sql: "DELETE FROM start WHERE endpoint = ?").execute(arguments: [endpoint])
        }
    }
}
