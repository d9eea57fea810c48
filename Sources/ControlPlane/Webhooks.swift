import AsyncHTTPClient
import Logging
import NIOCore
import Resource

/// Delivers webhooks from the durable outbox: one POST, and two more tries when it does not answer 2xx.
package struct WebhookService: Sendable {
    private static let parallel = 16

    private let store: any Store
    private let wakeups: Wakeups
    private let now: @Sendable () -> Milliseconds
    private let log: Logger

    package init(store: any Store, wakeups: Wakeups, now: @escaping @Sendable () -> Milliseconds, log: Logger) {
        self.store = store
        self.wakeups = wakeups
        self.now = now
        self.log = log
    }

    /// Delivers until cancelled.
    package func run() async {
        var timer: Task<Void, Never>?
        wakeups.signal("start")
        while !Task.isCancelled {
            _ = await wakeups.next()
            timer?.cancel()
            do {
                while try await deliverDue() {}
                guard let next = try await store.nextWebhook() else { continue }
                let delay = max(10, next - now())
                let wakeups = wakeups
                timer = Task {
                    _ = try? await Task.sleep(for: .milliseconds(delay))
                    if !Task.isCancelled { wakeups.signal("due") }
                }
            } catch {
                if Task.isCancelled { break }
                log.error("failed to read the webhook outbox", metadata: ["error": "\(error)"])
            }
        }
        timer?.cancel()
    }

    /// Delivers what is due, side by side. False when nothing was.
    private func deliverDue() async throws -> Bool {
        let due = try await store.dueWebhooks(at: now(), limit: Self.parallel)
        guard !due.isEmpty, !Task.isCancelled else { return false }
        await withTaskGroup(of: Void.self) { group in
            for webhook in due { group.addTask { await deliver(webhook) } }
        }
        return true
    }

    private func deliver(_ webhook: WebhookDelivery) async {
        do {
            guard let record = try await store.record(of: webhook.jobID), let payload = try await store.payload(of: webhook.jobID)
            else { return try await store.removeWebhook(webhook.id) }
            let body = JobView.body(record.job, result: record.result, request: payload)
            if await post(body, to: webhook) { return try await store.removeWebhook(webhook.id) }
            var next = webhook
            next.tries += 1
            guard next.tries < Limits.webhookTries else {
                log.warning("webhook given up", metadata: ["job_id": "\(webhook.jobID)", "tries": "\(next.tries)"])
                return try await store.removeWebhook(webhook.id)
            }
            try await store.postpone(next, until: now() + Limits.webhookRetryDelay)
        } catch {
            log.error("failed to deliver a webhook", metadata: ["job_id": "\(webhook.jobID)", "error": "\(error)"])
        }
    }

    /// Whether the receiver answered 2xx.
    private func post(_ body: [UInt8], to webhook: WebhookDelivery) async -> Bool {
        var request = HTTPClientRequest(url: webhook.url)
        request.method = .POST
        request.headers.add(name: "content-type", value: "application/json")
        request.headers.add(name: "user-agent", value: "Roost-Webhook/1")
        request.body = .bytes(body)
        do {
            let response = try await HTTPClient.shared.execute(request, timeout: .seconds(Limits.webhookTimeoutSeconds))
            return (200..<300).contains(Int(response.status.code))
        } catch {
            log.info("webhook not delivered", metadata: ["job_id": "\(webhook.jobID)", "error": "\(error)"])
            return false
        }
    }
}
