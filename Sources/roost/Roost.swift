import ArgumentParser

/// The command line: `serve` and `doctor` work on this machine, all others talk to a server.
struct Roost: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "roost",
        abstract: "Serverless workers with storage, speaking RunPod's APIs.",
        subcommands: [
            Serve.self, Doctor.self, Run.self, Logs.self, EndpointCommand.self, TemplateCommand.self, VolumeCommand.self,
            WorkerCommand.self, JobCommand.self, ImageCommand.self, KeyCommand.self, S3KeyCommand.self, StoreCommand.self,
            SyncCommand.self, ModelCommand.self, SecretsCommand.self,
            DiskBenchmark.self,
        ])
}
