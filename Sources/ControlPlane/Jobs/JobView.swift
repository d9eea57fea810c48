import Resource

/// The JSON of a job as clients see it, put together from raw parts.
package enum JobView {
    /// The body of `/status`, and with `includesRequest` of a webhook.
    package static func body(_ job: Job, result: JobResult, reason: String? = nil, request: JobPayload? = nil) -> [UInt8] {
        var out = Array("{".utf8)
        let lifecycle = job.lifecycle
        if let cold = job.coldStart, lifecycle.status != .inQueue { out += "\"coldStart\":\(cold),".utf8 }
        if let delay = lifecycle.delay, lifecycle.status != .inQueue { out += "\"delayTime\":\(delay),".utf8 }
        if let error = result.error { add("error", error, to: &out) }
        if let execution = lifecycle.execution { out += "\"executionTime\":\(execution),".utf8 }
        out += "\"id\":".utf8
        JSON.quote(job.id, to: &out)
        out.append(UInt8(ascii: ","))
        if let request { add("input", request.input, to: &out) }
        if let output = result.output { add("output", output, to: &out) }
        if let reason, lifecycle.status == .inQueue { add("reason", JSON.string(reason).bytes, to: &out) }
        if lifecycle.retries > 0 { out += "\"retries\":\(lifecycle.retries),".utf8 }
        out += "\"status\":\"\(lifecycle.status.rawValue)\"".utf8
        if request != nil, let webhook = job.webhook {
            out += ",\"webhook\":".utf8
            JSON.quote(webhook, to: &out)
        }
        if let worker = lifecycle.worker, !worker.isEmpty {
            out += ",\"workerId\":".utf8
            JSON.quote(worker, to: &out)
        }
        out.append(UInt8(ascii: "}"))
        return out
    }

    /// What a worker's poll gets: id, input, and whatever else the client sent.
    static func handout(_ job: Job, payload: JobPayload) -> [UInt8] {
        var out = Array("{\"id\":".utf8)
        JSON.quote(job.id, to: &out)
        out += ",\"input\":".utf8
        out += payload.input
        if !payload.extra.isEmpty {
            out.append(UInt8(ascii: ","))
            out += payload.extra
        }
        out.append(UInt8(ascii: "}"))
        return out
    }

    /// `{"status":S,"stream":[{"output":chunk},…]}`; `stream` is always there.
    package static func stream(_ status: JobStatus, chunks: [StreamChunk]) -> [UInt8] {
        var out = Array("{\"status\":\"\(status.rawValue)\",\"stream\":[".utf8)
        for (index, chunk) in chunks.enumerated() {
            if index > 0 { out.append(UInt8(ascii: ",")) }
            out += "{\"output\":".utf8
            out += chunk.bytes
            out.append(UInt8(ascii: "}"))
        }
        out += "]}".utf8
        return out
    }

    private static func add(_ key: String, _ value: [UInt8], to out: inout [UInt8]) {
        out += "\"\(key)\":".utf8
        out += value
        out.append(UInt8(ascii: ","))
    }
}
