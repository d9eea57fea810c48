import ArgumentParser
import ControlPlane
import Disk
import Gateway
import Glibc
import Logging
import Resource
import ServiceLifecycle

/// `roost serve`: one process, one data directory.
struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run the server.",
        discussion: """
            Flags come before environment (ROOST_DATA_DIR, ROOST_LISTEN, ROOST_S3_LISTEN, ROOST_CONFIG, ROOST_RUNTIME, ROOST_LOG_LEVEL), \
            environment before the configuration file. ROOST_ADMIN_KEY sets the admin API key; without it the first start \
            makes one and shows it once.
            """)

    @OptionGroup var options: ServerOptions

    func run() async throws {
        let configuration = try options.configuration()
        let problems = Machine.examine(configuration).filter { !$0.isGood }
        for problem in problems { Terminal.error("\(problem.subject): \(problem.detail)") }
        guard !problems.contains(where: \.isVital) else { throw ExitCode(1) }
        var log = Logger(label: "roost") { StreamLogHandler.standardError(label: $0) }
        log.logLevel = Logger.Level(rawValue: configuration.logLevel) ?? .info
        let plane: Plane
        let s3: S3Gateway?
        do {
            plane = try await Plane(configuration, log: log)
            try await ensureAdminKey(plane)
            s3 = configuration.s3.isOn ? try S3Gateway(plane, log: log) : nil
        } catch {
            Terminal.error("\(error)")
            throw ExitCode(1)
        }
        if let s3 { print("S3 listens on \(s3.url)") }
        try await serve(plane, s3, log: log)
    }

    private func serve(_ plane: Plane, _ s3: S3Gateway?, log: Logger) async throws {
        let host = plane.configuration.host
        let application = HTTPGateway.application(plane, s3: s3, log: log) { port in
            let base = Plane.apiBase(host: host, port: port)
            print("roost listens on \(base)")
            // Whoever started it may be reading through a pipe.
            fflush(nil)
            plane.guardian.listening(on: port)
            await plane.workers.open(apiBase: base)
        }
        // Stopped in reverse: the plane first, while workers can still post their results and reach their volumes.
        var parts: [any Service] = [application]
        if let s3 { parts.append(s3) }
        parts.append(PlaneService(plane: plane))
        var services = ServiceGroupConfiguration(
            services: parts, gracefulShutdownSignals: [.sigterm, .sigint], logger: log)
        services.maximumGracefulShutdownDuration = .seconds(plane.configuration.shutdownGraceSeconds + 20)
        do { try await ServiceGroup(configuration: services).run() } catch {
            Terminal.error("\(error)")
            throw ExitCode(1)
        }
        log.info("stopped")
    }

    private func ensureAdminKey(_ plane: Plane) async throws {
        if let secret = Environment["ROOST_ADMIN_KEY"] {
            guard secret.utf8.count >= 16 else { throw RoostError(.invalid, "ROOST_ADMIN_KEY must have at least 16 characters") }
            if plane.catalog.key(matching: secret) == nil {
                _ = try await plane.catalog.addKey(secret: secret, name: "admin (environment)", scope: .all, endpoints: [:])
            }
        } else if plane.catalog.snapshot.keys.isEmpty {
            let (_, secret) = try await plane.catalog.createKey(name: "admin", scope: .all, endpoints: [:])
            print("admin API key, shown once: \(secret)")
        }
    }
}

/// Runs the control plane until the server is told to stop, then stops it in order.
struct PlaneService: Service {
    let plane: Plane

    func run() async throws {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await plane.run() }
            group.addTask {
                // Cancelled instead of shut down: there is no time left to stop in order.
                guard (try? await gracefulShutdown()) != nil else { return }
                await plane.stop()
            }
            await group.next()
            group.cancelAll()
        }
    }
}

/// `roost doctor`: is this machine fit, and if not, what to do.
struct Doctor: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Check whether this machine can run workers.")

    @OptionGroup var options: ServerOptions

    func run() async throws {
        let findings = Machine.examine(try options.configuration())
        for finding in findings { print("\(finding.isGood ? "ok  " : "FAIL") \(finding.subject): \(finding.detail)") }
        guard findings.allSatisfy(\.isGood) else { throw ExitCode(1) }
    }
}

/// Flags of the server, over environment, over file.
struct ServerOptions: ParsableArguments {
    @Option(help: "Where everything is kept (default /var/lib/roost).") var dataDir: String?
    @Option(help: "HOST:PORT of the HTTP API (default 127.0.0.1:8080). Port 0 takes a free one.") var listen: String?
    @Option(help: "HOST:PORT of the S3 door (default 127.0.0.1:9000), or 'off'. Port 0 takes a free one.") var s3Listen: String?
    @Option(help: "PEM certificate chain: the S3 door speaks TLS.") var s3TlsCert: String?
    @Option(help: "PEM key of the certificate.") var s3TlsKey: String?
    @Option(help: "JSON configuration file; see docs/configuration.md.") var config: String?
    @Option(help: "OCI runtime: crun, runc, or a path.") var runtime: String?
    @Option(help: "trace, debug, info, notice, warning, error or critical.") var logLevel: String?

    func configuration() throws -> ServerConfiguration {
        do {
            var configuration = ServerConfiguration(dataDirectory: "/var/lib/roost")
            if let path = config ?? Environment["ROOST_CONFIG"] {
                let bytes = try Files.read(path)
                do { try configuration.apply(file: JSONReader.parse(bytes)) } catch {
                    throw ValidationError("\(path): \(error)")
                }
            }
            if let value = dataDir ?? Environment["ROOST_DATA_DIR"] { configuration.dataDirectory = value }
            if let value = listen ?? Environment["ROOST_LISTEN"] { try configuration.listen(on: value) }
            if let value = s3Listen ?? Environment["ROOST_S3_LISTEN"] { try configuration.listenS3(on: value) }
            if let value = s3TlsCert { configuration.s3.certificate = value }
            if let value = s3TlsKey { configuration.s3.privateKey = value }
            if let value = runtime ?? Environment["ROOST_RUNTIME"] { configuration.runtime = value }
            if let value = logLevel ?? Environment["ROOST_LOG_LEVEL"] { configuration.logLevel = value }
            guard Logger.Level(rawValue: configuration.logLevel) != nil else {
                throw ValidationError("log level '\(configuration.logLevel)' is not known")
            }
            // Mounts and containers need an absolute path.
            if !configuration.dataDirectory.hasPrefix("/") {
                configuration.dataDirectory = Environment.workingDirectory + "/" + configuration.dataDirectory
            }
            return configuration
        } catch let error as RoostError {
            throw ValidationError(error.message)
        } catch let error as DiskError {
            throw ValidationError(error.description)
        }
    }
}

/// The process's environment.
enum Environment {
    /// The value of a variable; an empty one counts as absent.
    static subscript(name: String) -> String? {
        guard let value = getenv(name) else { return nil }
        let text = String(cString: value)
        return text.isEmpty ? nil : text
    }

    static var workingDirectory: String {
        guard let path = getcwd(nil, 0) else { return "." }
        defer { free(path) }
        return String(cString: path)
    }
}
