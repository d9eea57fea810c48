import Resource

/// The environment the RunPod SDK and users' handlers expect in a worker.
enum WorkerEnvironment {
    static func make(worker: Worker, token: String, endpoint: Endpoint, template: Template, image: Image) -> [String] {
        var env: [String: String] = [
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
            "HOSTNAME": worker.id,
        ]
        for line in image.env {
            guard let equals = line.firstIndex(of: "=") else { continue }
            env[String(line[..<equals])] = String(line[line.index(after: equals)...])
        }
        env.merge(template.env) { $1 }
        // Ours last: without them the worker cannot work, whatever the template says.
        env.merge(runpod(worker: worker, token: token, endpoint: endpoint)) { $1 }
        if !endpoint.modelReferences.isEmpty, ["HF_HOME", "HF_HUB_CACHE"].allSatisfy({ template.env[$0] == nil }) {
            env["HF_HUB_CACHE"] = "/runpod-volume/huggingface-cache/hub"
        }
        // The door and stores of one's own are at private addresses, which the SDK's downloads refuse by default.
        if template.env["RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS"] == nil { env["RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS"] = "true" }
        if template.env["RUNPOD_PING_INTERVAL"] == nil { env["RUNPOD_PING_INTERVAL"] = "10000" }
        return env.map { "\($0.key)=\($0.value)" }.sorted()
    }

    private static func runpod(worker: Worker, token: String, endpoint: Endpoint) -> [String: String] {
        let gpu = worker.gpuType?.filter { $0 != " " && $0 != "&" && $0 != "?" } ?? "CPU"
        let calls = "\(worker.apiBase)/v2/\(worker.endpointID)"
        var env = [
            "RUNPOD_WEBHOOK_GET_JOB": "\(calls)/job-take/$ID?gpu=\(gpu)",
            "RUNPOD_WEBHOOK_POST_OUTPUT": "\(calls)/job-done/$RUNPOD_POD_ID/$ID?gpu=\(gpu)",
            "RUNPOD_WEBHOOK_POST_STREAM": "\(calls)/job-stream/$RUNPOD_POD_ID/$ID?gpu=\(gpu)",
            "RUNPOD_WEBHOOK_PING": "\(calls)/ping/$RUNPOD_POD_ID",
            "RUNPOD_AI_API_KEY": token, "RUNPOD_API_KEY": token, "RUNPOD_ENDPOINT_SECRET": token,
            "RUNPOD_POD_ID": worker.id, "RUNPOD_POD_HOSTNAME": worker.id, "RUNPOD_ENDPOINT_ID": worker.endpointID,
            "RUNPOD_AI_API_ID": worker.endpointID, "RUNPOD_DC_ID": worker.dataCenterID,
            "RUNPOD_CPU_COUNT": String(worker.vcpus), "RUNPOD_MEM_GB": String(worker.memoryBytes >> 30),
            "RUNPOD_GPU_COUNT": String(worker.gpuCount), "RUNPOD_PUBLIC_IP": "127.0.0.1",
            // The SDK's own checks want 8.8.8.8 and 4 GB: an offline laptop has neither.
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        ]
        if let type = worker.gpuType {
            env["RUNPOD_GPU_TYPE_ID"] = type
            env["RUNPOD_GPU_NAME"] = type
        }
        if let volume = worker.volumeID { env["RUNPOD_VOLUME_ID"] = volume }
        return env
    }
}
