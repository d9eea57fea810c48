import ControlPlane
import Resource

/// `/v1/openapi.json`, made from the same field tables that check requests.
enum OpenAPI {
    static func document(_ configuration: ServerConfiguration) -> JSON {
        [
            "openapi": "3.1.0",
            "info": ["title": "Roost", "version": "1.0.0", "description": "Serverless workers with storage; speaks RunPod's REST v1."],
            "security": [["key": []]],
            "paths": .object(paths(configuration)),
            "components": [
                "securitySchemes": ["key": ["type": "http", "scheme": "bearer"]],
                "schemas": .object(schemas(configuration)),
            ],
        ]
    }

    // MARK: - Paths

    private static func paths(_ configuration: ServerConfiguration) -> [JSON.Member] {
        var paths = resource("templates", schema: "Template", updates: true)
        paths += resource("endpoints", schema: "Endpoint", updates: true, query: [flag("includeTemplate"), flag("includeWorkers")])
        paths += resource("networkvolumes", schema: "NetworkVolume", updates: true, extra: ["507": failure("the disk is full")])
        paths += resource("apikeys", schema: "APIKey", updates: false)
        paths += resource("s3keys", schema: "S3Key", updates: false)
        paths += resource("objectstores", schema: "ObjectStore", updates: true)
        paths += resource("containerregistryauth", schema: "RegistryAuth", updates: false)
        paths += resource("syncs", schema: "Sync", updates: false, extra: ["503": failure("the S3 door is off")])
        paths += [
            .init("/v1/s3", ["get": operation("where the S3 door is", ok: ["type": "object", "required": ["url"]], failures: ["404"])]),
            .init(
                "/v1/objectstores/{id}/check",
                [
                    "post": operation(
                        "check an object store by a round trip", ok: ["type": "object", "required": ["ok"]], failures: ["404"],
                        parameters: [pathID])
                ]),
            .init("/v1/datacenters", ["get": operation("list data centers", ok: array("DataCenter"), failures: [])]),
            .init("/v1/images", ["get": operation("list images", ok: array("Image"), failures: [])]),
            .init(
                "/v1/images/{id}",
                [
                    "get": operation("one image", ok: reference("Image"), failures: ["404"], parameters: [pathID]),
                    "delete": operation("remove an image", ok: nil, failures: ["404", "409"], parameters: [pathID]),
                ]),
            .init(
                "/v1/endpoints/{id}/workers",
                ["get": operation("workers of an endpoint", ok: array("Worker"), failures: ["404"], parameters: [pathID])]),
            .init(
                "/v1/endpoints/{id}/starts",
                ["get": operation("how its starts went", ok: ["type": "object"], failures: ["404"], parameters: [pathID])]),
            .init(
                "/v1/workers/{id}/starts",
                [
                    "get": operation(
                        "starts of a worker, also of one that is gone", ok: ["type": "object", "required": ["starts"]], failures: ["404"],
                        parameters: [pathID])
                ]),
            .init(
                "/v1/endpoints/{id}/warmpages",
                [
                    "get": operation(
                        "what is read ahead of its next start", ok: ["type": "object", "required": ["bytes", "files"]],
                        failures: ["404"], parameters: [pathID]),
                    "delete": operation("record anew what is read ahead", ok: nil, failures: ["404"], parameters: [pathID]),
                ]),
            .init(
                "/v1/endpoints/{id}/workers/{worker}",
                [
                    "get": operation("one worker", ok: reference("Worker"), failures: ["404"], parameters: [pathID, path("worker")]),
                    "delete": operation("stop a worker", ok: nil, failures: ["404"], parameters: [pathID, path("worker")]),
                ]),
            .init(
                "/v1/endpoints/{id}/workers/{worker}/logs",
                [
                    "get": operation(
                        "log of a worker", ok: ["type": "object", "required": ["lines"]], failures: ["400", "404"],
                        parameters: [pathID, path("worker"), integer("tail", 0...Limits.logTailLines)])
                ]),
        ]
        return paths + jobs(configuration)
    }

    /// The five operations of a REST resource.
    private static func resource(
        _ name: String, schema: String, updates: Bool, query: [JSON] = [], extra: JSON = [:]
    ) -> [JSON.Member] {
        let create = operation(
            "create", ok: reference(schema), failures: ["400", "409", "413"], parameters: query, body: reference(schema + "Create"),
            extra: extra)
        var one: [JSON.Member] = [
            .init("get", operation("read", ok: reference(schema), failures: ["400", "404"], parameters: [pathID] + query)),
            .init("delete", operation("delete", ok: nil, failures: ["404", "409"], parameters: [pathID])),
        ]
        var paths: [JSON.Member] = []
        if updates {
            let update = operation(
                "change", ok: reference(schema), failures: ["400", "404", "409", "413"], parameters: [pathID] + query,
                body: reference(schema + "Update"), extra: extra)
            one.append(.init("patch", update))
            paths.append(.init("/v1/\(name)/{id}/update", ["post": update]))
        }
        let list = operation("list", ok: array(schema), failures: ["400"], parameters: query)
        return paths + [.init("/v1/\(name)", ["get": list, "post": create]), .init("/v1/\(name)/{id}", .object(one))]
    }

    private static func jobs(_ configuration: ServerConfiguration) -> [JSON.Member] {
        let endpoint = path("endpoint")
        let job = path("job")
        let range = Int(Limits.syncWaitRange.lowerBound)...Int(Limits.syncWaitRange.upperBound)
        let wait = integer("wait", range)
        func submit(_ summary: String, _ parameters: [JSON]) -> JSON {
            [
                "post": operation(
                    summary, ok: reference("Job"), failures: ["400", "404", "413", "429"], parameters: [endpoint] + parameters,
                    body: reference("JobRequest"), extra: ["507": failure("the disk is full"), "503": failure("the server is stopping")])
            ]
        }
        func read(_ summary: String, _ schema: JSON, _ parameters: [JSON]) -> JSON {
            ["get": operation(summary, ok: schema, failures: ["400", "404"], parameters: [endpoint, job] + parameters)]
        }
        func act(_ summary: String, _ schema: JSON, _ parameters: [JSON]) -> JSON {
            ["post": operation(summary, ok: schema, failures: ["400", "404"], parameters: [endpoint] + parameters)]
        }
        let object: JSON = ["type": "object"]
        return [
            .init("/v2/{endpoint}/run", submit("queue a job", [])),
            .init(
                "/v2/{endpoint}/upload",
                [
                    "post": operation(
                        "a place for an input too large for a request", ok: ["type": "object", "required": ["url", "ref"]],
                        failures: ["400", "404", "409", "413"], parameters: [endpoint], body: object)
                ]),
            .init("/v2/{endpoint}/runsync", submit("queue a job and wait for it", [wait])),
            .init("/v2/{endpoint}/status/{job}", read("state of a job", reference("Job"), [])),
            .init("/v2/{endpoint}/status-sync/{job}", read("state of a job, once it has ended", reference("Job"), [wait])),
            .init(
                "/v2/{endpoint}/stream/{job}",
                read("chunks not delivered yet", ["type": "object", "required": ["status", "stream"]], [wait])),
            .init("/v2/{endpoint}/cancel/{job}", act("cancel a job", reference("Job"), [job])),
            .init("/v2/{endpoint}/retry/{job}", act("queue a failed job anew", reference("Job"), [job])),
            .init("/v2/{endpoint}/purge-queue", act("cancel all queued jobs", object, [])),
            .init(
                "/v2/{endpoint}/health",
                ["get": operation("counts of jobs and workers", ok: object, failures: ["404"], parameters: [endpoint])]),
            .init("/v2/{endpoint}/requests", ["get": operation("recent jobs", ok: object, failures: ["404"], parameters: [endpoint])]),
        ]
    }

    // MARK: - Schemas

    private static func schemas(_ configuration: ServerConfiguration) -> [JSON.Member] {
        let volume = NetworkVolume.fields(minimumSize: configuration.minimumVolumeGb)
        return [
            .init("TemplateCreate", input(Template.fields, isUpdate: false)),
            .init("TemplateUpdate", input(Template.fields, isUpdate: true)),
            .init("EndpointCreate", input(Endpoint.fields, isUpdate: false)),
            .init("EndpointUpdate", input(Endpoint.fields, isUpdate: true)),
            .init("NetworkVolumeCreate", input(volume, isUpdate: false)),
            .init("NetworkVolumeUpdate", input(NetworkVolume.fields(minimumSize: 1), isUpdate: true)),
            .init("APIKeyCreate", input(APIKey.fields, isUpdate: false)),
            .init("RegistryAuthCreate", input(RegistryAuth.fields, isUpdate: false)), .init("RegistryAuth", output(["id", "name"])),
            .init("SyncCreate", input(StoreSync.fields, isUpdate: false)),
            .init("Sync", output(["id", "source", "target", "status", "runs", "files", "copiedFiles"])),
            .init("ObjectStoreCreate", input(ObjectStore.fields, isUpdate: false)),
            .init("ObjectStoreUpdate", input(ObjectStore.fields, isUpdate: true)),
            .init("ObjectStore", output(["name", "endpointUrl", "bucketName", "prefix", "region", "accessId"])),
            .init("S3KeyCreate", input(S3Key.fields, isUpdate: false)),
            .init("S3Key", output(["accessKeyId", "name", "volumeIds", "prefixes", "readOnly", "manageBuckets"])),
            .init("Template", output(["id", "name", "imageName", "containerDiskInGb", "env"])),
            .init("Endpoint", output(["id", "name", "templateId", "workersMin", "workersMax", "version", "createdAt"])),
            .init("NetworkVolume", output(["id", "name", "size", "dataCenterId", "status"])),
            .init("APIKey", output(["id", "name", "scope"])), .init("DataCenter", output(["id", "vcpus", "memoryGb"])),
            .init("Image", output(["id", "name", "digest", "layers"])), .init("Worker", output(["id", "status", "dataCenterId"])),
            .init("Job", output(["id", "status"])), .init("Error", output(["error", "status"])),
            .init(
                "JobRequest",
                [
                    "type": "object", "required": ["input"],
                    "properties": [
                        "input": ["type": "object"], "webhook": ["type": "string", "pattern": "^https?://[!-~]+$", "maxLength": 2_048],
                        "policy": [
                            "type": "object",
                            "properties": [
                                "executionTimeout": range(Limits.executionTimeoutRange), "ttl": range(Limits.timeToLiveRange),
                                "lowPriority": ["type": "boolean"],
                            ],
                        ],
                    ],
                ]),
        ]
    }

    private static func range(_ range: ClosedRange<Milliseconds>) -> JSON {
        ["type": "integer", "minimum": .int(Int(range.lowerBound)), "maximum": .int(Int(range.upperBound))]
    }

    private static func input(_ fields: [Field], isUpdate: Bool) -> JSON {
        let shown = fields.filter { !isUpdate || $0.isMutable }
        let required = isUpdate ? [] : fields.filter(\.isRequired).map(\.name)
        return [
            "type": "object", "required": .strings(required), "properties": .object(shown.map { JSON.Member($0.name, $0.schema) }),
        ]
    }

    private static func output(_ required: [String]) -> JSON { ["type": "object", "required": .strings(required)] }

    // MARK: - Pieces

    private static let pathID = path("id")

    private static func path(_ name: String) -> JSON {
        ["name": .string(name), "in": "path", "required": true, "schema": ["type": "string", "minLength": 1]]
    }

    private static func flag(_ name: String) -> JSON { ["name": .string(name), "in": "query", "schema": ["type": "boolean"]] }

    private static func integer(_ name: String, _ range: ClosedRange<Int>) -> JSON {
        [
            "name": .string(name), "in": "query",
            "schema": ["type": "integer", "minimum": .int(range.lowerBound), "maximum": .int(range.upperBound)],
        ]
    }

    private static func reference(_ schema: String) -> JSON { ["$ref": .string("#/components/schemas/" + schema)] }
    private static func array(_ schema: String) -> JSON { ["type": "array", "items": reference(schema)] }
    private static func content(_ schema: JSON) -> JSON { ["application/json": ["schema": schema]] }

    private static func failure(_ text: String) -> JSON { ["description": .string(text), "content": content(reference("Error"))] }

    private static func operation(
        _ summary: String, ok: JSON?, failures: [String], parameters: [JSON] = [], body: JSON? = nil, extra: JSON = [:]
    ) -> JSON {
        let texts = [
            "400": "the request is wrong", "401": "no or unknown key", "403": "the key may not do this", "404": "not found",
            "409": "in use, or in the wrong state", "413": "over the size limit", "429": "ask again later",
        ]
        var responses: [JSON.Member] = []
        if let ok {
            responses.append(.init("200", ["description": "done", "content": content(ok)]))
        } else {
            responses.append(.init("204", ["description": "done"]))
        }
        responses += (["401", "403"] + failures).map { .init($0, failure(texts[$0] ?? "failed")) }
        responses += extra.members ?? []
        return .compact([
            "summary": .string(summary), "parameters": parameters.isEmpty ? nil : .array(parameters),
            "requestBody": body.map { ["required": true, "content": content($0)] }, "responses": .object(responses),
        ])
    }
}
