import Foundation
import GRDB
import Resource

/// The embedded store: one SQLite file in WAL mode, synced at every commit.
package final class SQLiteStore: Store {
    let pool: DatabasePool
    let writer: GroupCommit

    package init(path: String) throws {
        var configuration = Configuration()
        configuration.prepareDatabase { database in
            try database.execute(sql: "PRAGMA synchronous = FULL")
            try database.execute(sql: "PRAGMA wal_autocheckpoint = 0")
        }
        configuration.busyMode = .timeout(5)
        do {
            pool = try DatabasePool(path: path, configuration: configuration)
            try Schema.migrator.migrate(pool)
            writer = GroupCommit(pool, checkpointer: try Checkpointer(path: path))
        } catch {
            throw Self.mapped(error)
        }
    }

    package func documents<Value: Codable & Sendable>(
        _ kind: DocumentKind, as type: Value.Type
    ) async throws -> [Value] {
        let rows = try await read { database in
            try Row.fetchAll(
                database, sql: "SELECT id, body FROM document WHERE kind = ? ORDER BY id", arguments: [kind.rawValue]
            ).map { (id: $0["id"] as String, body: $0["body"] as Data) }
        }
        return try rows.map { row in
            do { return try JSONDecoder().decode(type, from: row.body) } catch {
                // Never delete or skip what cannot be read: it is somebody's.
                throw RoostError(.internalFault, "the stored \(kind.rawValue) \(row.id) cannot be read: \(error)")
            }
        }
    }

    package func save<Value: Codable & Sendable>(_ value: Value, kind: DocumentKind, id: String) async throws {
        let body = try JSONEncoder().encode(value)
        try await write { database in
            try database.cachedStatement(
                sql: "INSERT INTO document (kind, id, body) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body"
            ).execute(arguments: [kind.rawValue, id, body])
        }
    }

    package func remove(_ kind: DocumentKind, id: String) async throws {
        try await write { database in
            try database.cachedStatement(sql: "DELETE FROM document WHERE kind = ? AND id = ?")
                .execute(arguments: [kind.rawValue, id])
        }
    }

    func write(_ body: @escaping @Sendable (Database) throws -> Void) async throws {
        do { try await writer.write(body) } catch { throw Self.mapped(error) }
    }

    func read<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value {
        do { return try await pool.read(body) } catch { throw Self.mapped(error) }
    }

    /// The border: SQLite's errors become ours.
    private static func mapped(_ error: any Error) -> any Error {
        guard let error = error as? DatabaseError else { return error }
        switch error.resultCode {
        case .SQLITE_FULL:
            return RoostError(.noSpace, "the disk that holds Roost's database is full: free some space; nothing was accepted")
        case .SQLITE_CONSTRAINT: return RoostError(.conflict, "the database refused: \(error.message ?? "constraint")")
        default: return RoostError(.internalFault, "database: \(error)")
        }
    }
}

/// Migrations: append only, never edit one that was released.
enum Schema {
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1 documents, jobs, webhooks") { database in
            try database.execute(
                sql: """
                    CREATE TABLE document (
                        kind TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, id)
                    ) WITHOUT ROWID;
                    CREATE TABLE job (
                        number INTEGER PRIMARY KEY,
                        id TEXT NOT NULL UNIQUE,
                        endpoint TEXT NOT NULL,
                        status TEXT NOT NULL,
                        is_sync INTEGER NOT NULL,
                        is_low_priority INTEGER NOT NULL,
                        created_at INTEGER NOT NULL,
                        expires_at INTEGER NOT NULL,
                        execution_timeout INTEGER NOT NULL,
                        retention INTEGER NOT NULL,
                        webhook TEXT,
                        worker TEXT,
                        since INTEGER NOT NULL,
                        retries INTEGER NOT NULL,
                        delay INTEGER,
                        execution INTEGER,
                        remove_at INTEGER,
                        input BLOB NOT NULL,
                        extra BLOB NOT NULL,
                        output BLOB,
                        error BLOB
                    );
                    CREATE INDEX job_by_endpoint ON job (endpoint, number);
                    CREATE INDEX job_live ON job (number) WHERE remove_at IS NULL;
                    CREATE INDEX job_by_removal ON job (remove_at) WHERE remove_at IS NOT NULL;
                    CREATE TABLE chunk (
                        job TEXT NOT NULL, sequence INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (job, sequence)
                    ) WITHOUT ROWID;
                    CREATE TABLE webhook (
                        id INTEGER PRIMARY KEY, job TEXT NOT NULL, url TEXT NOT NULL, tries INTEGER NOT NULL,
                        due_at INTEGER NOT NULL
                    );
                    CREATE INDEX webhook_by_due ON webhook (due_at);
                    CREATE TABLE counter (
                        endpoint TEXT PRIMARY KEY, completed INTEGER NOT NULL, failed INTEGER NOT NULL,
                        retried INTEGER NOT NULL
                    ) WITHOUT ROWID;
                    """)
        }
        migrator.registerMigration("2 cold starts") { database in
            try database.execute(sql: "ALTER TABLE job ADD COLUMN cold_start INTEGER")
        }
        migrator.registerMigration("3 starts") { database in
            try database.execute(
                sql: """
                    CREATE TABLE start (
                        endpoint TEXT NOT NULL, at INTEGER NOT NULL, worker TEXT NOT NULL, body BLOB NOT NULL,
                        PRIMARY KEY (endpoint, at, worker)
                    ) WITHOUT ROWID;
                    """)
        }
        return migrator
    }
}
