import Subprocess

#if canImport(System)
    import System
#else
    import SystemPackage
#endif

/// A tool of the system, run to its end.
package enum Command {
    package struct Output: Sendable {
        package var code: Int
        package var stdout: String
        package var stderr: String
    }

    /// Runs `tool` and returns what it printed, up to 1 MiB each.
    /// `environment` is added to the server's own.
    package static func output(_ tool: String, _ arguments: [String], environment: [String: String] = [:]) async throws -> Output {
        do {
            let added = environment.map { (Environment.Key(rawValue: $0.key), $0.value) }.compactMap { key, value in key.map { ($0, value) }
            }
            let result = try await Subprocess.run(
                executable(tool), arguments: Arguments(arguments),
                environment: .inherit.updating(Dictionary(added, uniquingKeysWith: { $1 })), output: .string(limit: 1 << 20),
                error: .string(limit: 1 << 20))
            let code =
                switch result.terminationStatus {
                case .exited(let code): Int(code)
                case .signaled(let signal): 128 + Int(signal)
                }
            return Output(code: code, stdout: result.standardOutput, stderr: result.standardError)
        } catch let error as SubprocessError {
            throw DiskError(tool, path: arguments.last ?? "", detail: "\(error)")
        }
    }

    /// Runs `tool`; anything but exit code 0 is an error with what it said.
    @discardableResult
    package static func run(_ tool: String, _ arguments: [String]) async throws -> String {
        let output = try await output(tool, arguments)
        guard output.code == 0 else {
            let said = (output.stderr.isEmpty ? output.stdout : output.stderr).suffix(2_000)
            throw DiskError(
                tool, path: arguments.last ?? "", errno: said.contains("No space left") ? 28 : 0,
                detail: "exit code \(output.code): \(said.trimmingSuffix { $0.isWhitespace })")
        }
        return output.stdout
    }

    /// Where `tool` lies; administrators' folders count even when PATH lacks them.
    package static func find(_ tool: String) -> String? {
        let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        return folders.map { $0 + "/" + tool }.first { Files.exists($0) }
    }

    private static func executable(_ tool: String) -> Executable {
        if tool.hasPrefix("/") { return .path(FilePath(tool)) }
        return find(tool).map { .path(FilePath($0)) } ?? .name(tool)
    }
}

extension Substring {
    fileprivate func trimmingSuffix(_ isCut: (Character) -> Bool) -> Substring {
        var text = self
        while let last = text.last, isCut(last) { text.removeLast() }
        return text
    }
}
