import ArgumentParser
import Resource

struct SecretsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "secrets", abstract: "The key that stored secrets are sealed with.", subcommands: [SecretsRotate.self])
}

struct SecretsRotate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rotate", abstract: "Seal all stored secrets anew with a fresh key.",
        discussion: "Older keys stay for 8 days, for the jobs that were sealed with them; then the next rotation drops them.")
    @OptionGroup var options: ClientOptions

    func run() async throws {
        let answer = try await options.client.call(.POST, "/v1/secrets/rotate")
        print(options.json ? answer.pretty : "sealed with a new key; the key file holds \(answer["keys"]?.int ?? 0)")
    }
}
