"""The job API, driven by curl's kind of requests and by the real runpod SDK."""

import http.server
import json
import threading
import time

import pytest
import requests
import runpod

from conftest import wait_until


@pytest.fixture(scope="module")
def endpoint(server):
    made = server.endpoint("sync")
    yield made
    server.remove(made)


@pytest.fixture(scope="module")
def parked(server):
    """An endpoint that may not start workers: its jobs stay queued."""
    made = server.endpoint("sync", workersMax=0)
    yield made
    server.remove(made)


@pytest.fixture
def sdk(server, endpoint):
    runpod.api_key = server.KEY
    runpod.endpoint_url_base = server.url + "/v2"
    return runpod.Endpoint(endpoint)


def test_sdk_run_and_output(sdk):
    job = sdk.run({"input": {"name": "Ada"}})
    assert job.output(timeout=60)["echo"] == {"name": "Ada"}
    assert job.status() == "COMPLETED"


def test_sdk_run_sync(sdk):
    assert sdk.run_sync({"input": {"n": 1}}, timeout=60)["echo"] == {"n": 1}


def test_sdk_health_and_purge(sdk):
    health = sdk.health()
    assert set(health) == {"jobs", "workers"}
    assert set(health["workers"]) == {"idle", "initializing", "ready", "running", "throttled", "unhealthy"}
    assert sdk.purge_queue()["status"] == "completed"


def test_status_fields_of_a_completed_job(server, endpoint):
    done = server.do(endpoint, {"a": 1})
    assert done["status"] == "COMPLETED"
    assert set(done) == {"id", "status", "output", "delayTime", "executionTime", "workerId", "coldStart"}


def test_extra_members_reach_the_handler(server, endpoint):
    done = server.do(endpoint, {}, s3Config={"bucketName": "b"}, custom=[1])
    assert {"s3Config", "custom", "id", "input"} <= set(done["output"]["keys"])


def test_numbers_pass_through_unrounded(server, endpoint):
    body = '{"input":{"python":"result = str(job[\'input\'][\'big\'])","big":12345678901234567890123}}'
    job = server.call("POST", f"/v2/{endpoint}/run", data=body).json()["id"]
    assert server.finish(endpoint, job)["output"] == "12345678901234567890123"


def test_raw_and_bearer_authorization(server, endpoint):
    for header in (server.KEY, f"Bearer {server.KEY}", f"bearer {server.KEY}"):
        answer = requests.get(f"{server.url}/v2/{endpoint}/health", headers={"authorization": header})
        assert answer.status_code == 200
    assert requests.get(f"{server.url}/v2/{endpoint}/health").json()["error"] == "no token provided"
    assert server.call("GET", f"/v2/{endpoint}/health", key="wrong", expect=401).json()["error"] == "invalid api key"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("body", [None, "", "{}"])
def test_status_and_stream_take_get_and_post_with_any_body(server, parked, method, body):
    job = server.run(parked, {})
    for operation in ("status", "stream", "status-sync"):
        query = "" if operation == "status" else "?wait=1000"
        answer = server.call(method, f"/v2/{parked}/{operation}/{job}{query}", data=body,
                             headers={"Content-Type": "application/json"})
        assert answer.json()["status"] == "IN_QUEUE"


def test_queued_job_says_why(server, parked):
    job = server.run(parked, {})
    reason = wait_until(lambda: (r := server.get(f"/v2/{parked}/status/{job}")["reason"]) and "workersMax" in r and r)
    assert "0" in reason


def test_runsync_returns_after_its_wait(server, parked):
    begin = time.monotonic()
    answer = server.post(f"/v2/{parked}/runsync?wait=1000", {"input": {}})
    assert answer["status"] == "IN_QUEUE" and answer["id"].startswith("sync-")
    assert 0.9 < time.monotonic() - begin < 5


def test_cancel_queued_and_purge(server, parked):
    first, second = server.run(parked, {}), server.run(parked, {})
    assert server.post(f"/v2/{parked}/cancel/{first}")["status"] == "CANCELLED"
    assert server.post(f"/v2/{parked}/cancel/{first}")["status"] == "CANCELLED"
    assert server.post(f"/v2/{parked}/purge-queue")["removed"] >= 1
    assert server.get(f"/v2/{parked}/status/{second}")["status"] == "CANCELLED"
    assert server.get(f"/v2/{parked}/health")["jobs"]["inQueue"] == 0


def test_retry_only_failed_jobs(server, endpoint):
    job = server.run(endpoint, {"raise": "once"})
    failed = server.finish(endpoint, job)
    assert failed["status"] == "FAILED" and json.loads(failed["error"])["error_message"] == "once"
    assert server.post(f"/v2/{endpoint}/retry/{job}") == {"id": job, "status": "IN_QUEUE"}
    assert server.finish(endpoint, job)["status"] == "FAILED"
    done = server.run(endpoint, {})
    server.finish(endpoint, done)
    assert "only FAILED" in server.post(f"/v2/{endpoint}/retry/{done}", expect=400)["error"]


def test_requests_lists_recent_jobs(server, parked):
    job = server.run(parked, {})
    assert server.get(f"/v2/{parked}/requests")["requests"][0]["id"] == job


def test_time_to_live_removes_a_job(make_server):
    server = make_server()
    parked = server.parked_endpoint()
    job = server.run(parked, {}, policy={"ttl": 10_000})
    wait_until(lambda: server.call("GET", f"/v2/{parked}/status/{job}", expect=None).status_code == 404, 20)
    assert server.get(f"/v2/{parked}/health")["jobs"]["inQueue"] == 0


def test_retention_of_finished_jobs(make_server):
    server = make_server({"retentionSeconds": 1})
    parked = server.parked_endpoint()
    job = server.run(parked, {})
    server.post(f"/v2/{parked}/cancel/{job}")
    wait_until(lambda: server.call("GET", f"/v2/{parked}/status/{job}", expect=None).status_code == 404, 10)


@pytest.mark.parametrize("body, part", [
    ("", "malformed JSON"), ("{", "malformed JSON"), ("[]", "expected an object"), ('"x"', "expected an object"),
    ("{}", "'input' is required"), ('{"input": []}', "'input'"), ('{"input": null}', "'input'"),
    ('{"input": {"a": NaN}}', "NaN"), ('{"input": {}, "input": 3}', "'input'"), ('{"input": {"\\ud800": 1}} x', "follows"),
    ('{"input": {}, "policy": 5}', "'policy'"), ('{"input": {}, "policy": {"ttl": 9999}}', "10000 to 604800000"),
    ('{"input": {}, "policy": {"executionTimeout": "1"}}', "5000 to"), ('{"input": {}, "policy": {"lowPriority": 1}}', "lowPriority"),
    ('{"input": {}, "webhook": "ftp://x"}', "'webhook'"), ('{"input": {}, "webhook": 3}', "'webhook'"),
    ("[" * 100_000, "malformed JSON"), ('{"input": ' + '{"a":' * 1000 + "1" + "}" * 1001, "nested deeper"),
    (b'{"input": {"a": "\xff"}}', "UTF-8"), (b"\x00\x01\x02", "malformed JSON"),
])
def test_malformed_requests_are_named(server, parked, body, part):
    error = server.call("POST", f"/v2/{parked}/run", data=body, expect=400).json()["error"]
    assert part in error


def test_unknown_and_foreign_ids(server, endpoint, parked):
    job = server.run(parked, {})
    assert server.get(f"/v2/{endpoint}/status/{job}", expect=404)["error"]
    for path in ("/v2/nosuch/run", "/v2/..%2f..%2fetc/run", f"/v2/{endpoint}%00/run"):
        server.call("POST", path, json={"input": {}}, expect=(400, 404))
    for name in ("../../x", "%2e%2e", "a" * 5000, "\u00e9"):
        server.call("GET", f"/v2/{endpoint}/status/{name}", expect=(400, 404, 414))


def test_request_over_the_limit(server, parked):
    for operation, limit in (("run", 10 << 20), ("runsync?wait=1000", 20 << 20)):
        fits = b'{"input":{"x":"' + b"y" * (limit - 100) + b'"}}'
        server.call("POST", f"/v2/{parked}/{operation}", data=fits, expect=200)
        error = server.call("POST", f"/v2/{parked}/{operation}", data=fits + b" " * 200, expect=413).json()["error"]
        assert str(limit) in error and "object storage" in error
    server.post(f"/v2/{parked}/purge-queue")


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers 500 as often as it is told, and keeps what came."""

    def do_POST(self):
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(500 if len(self.server.bodies) <= self.server.failures else 200)
        self.end_headers()
        self.server.arrived.release()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.bodies, server.failures, server.arrived = [], 0, threading.Semaphore(0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_webhook_carries_job_and_input(server, endpoint, receiver):
    url = f"http://127.0.0.1:{receiver.server_port}/hook"
    job = server.run(endpoint, {"a": 1}, webhook=url)
    assert receiver.arrived.acquire(timeout=60)
    body = receiver.bodies[0]
    assert body["id"] == job and body["status"] == "COMPLETED" and body["input"] == {"a": 1} and body["webhook"] == url
    assert body["output"]["echo"] == {"a": 1} and "executionTime" in body


def test_webhook_is_tried_again_after_a_restart(make_server, receiver):
    server = make_server()
    parked = server.parked_endpoint()
    receiver.failures = 1
    job = server.run(parked, {}, webhook=f"http://127.0.0.1:{receiver.server_port}/")
    server.post(f"/v2/{parked}/cancel/{job}")
    assert receiver.arrived.acquire(timeout=20)
    server.kill()
    server.start()
    assert receiver.arrived.acquire(timeout=30)
    assert [body["status"] for body in receiver.bodies] == ["CANCELLED", "CANCELLED"]


def test_read_only_and_restricted_keys(server, endpoint, parked):
    reader = server.post("/v1/apikeys", {"name": "reader", "scope": "READ_ONLY"})
    limited = server.post("/v1/apikeys", {"name": "one", "scope": "RESTRICTED", "endpoints": {parked: "READ_WRITE"}})
    assert reader["key"] not in json.dumps(server.get("/v1/apikeys"))
    server.get("/v1/endpoints", key=reader["key"])
    server.post(f"/v2/{parked}/run", {"input": {}}, key=reader["key"], expect=403)
    server.post("/v1/templates", {"name": "x", "imageName": "y"}, key=reader["key"], expect=403)
    server.post(f"/v2/{parked}/run", {"input": {}}, key=limited["key"])
    server.post(f"/v2/{endpoint}/run", {"input": {}}, key=limited["key"], expect=403)
    server.get("/v1/endpoints", key=limited["key"], expect=403)
    for key in (reader, limited):
        server.call("DELETE", f"/v1/apikeys/{key['id']}", expect=204)
        server.get("/v1/endpoints", key=key["key"], expect=401)
