"""Scaling, and handlers that misbehave."""

import pytest

from conftest import wait_until


def test_scales_to_zero_and_wakes(server):
    endpoint = server.endpoint("sync", idleTimeout=1)
    first = server.do(endpoint, {})
    wait_until(lambda: server.workers(endpoint) == [], 20, "scaled to zero")
    assert server.do(endpoint, {})["workerId"] != first["workerId"]
    server.remove(endpoint)


def test_workers_min_are_kept(server):
    endpoint = server.endpoint("sync", workersMin=1, workersMax=2, idleTimeout=1)
    worker = wait_until(lambda: [w for w in server.workers(endpoint) if w["status"] == "IDLE"], 30)[0]["id"]
    server.do(endpoint, {"sleep": 2})
    assert [w["id"] for w in server.workers(endpoint)] == [worker]
    server.call("PATCH", f"/v1/endpoints/{endpoint}", json={"workersMin": 0})
    wait_until(lambda: server.workers(endpoint) == [], 20)
    server.remove(endpoint)


def test_request_count_starts_one_worker_for_each_share(server):
    endpoint = server.endpoint("sync", workersMax=2, scalerType="REQUEST_COUNT", scalerValue=1)
    jobs = [server.run(endpoint, {"sleep": 3}) for _ in range(3)]
    wait_until(lambda: len(server.workers(endpoint)) == 2, 10)
    reason = wait_until(lambda: "at workersMax" in server.get(f"/v2/{endpoint}/status/{jobs[2]}").get("reason", ""), 20)
    assert reason
    assert {server.finish(endpoint, job)["status"] for job in jobs} == {"COMPLETED"}
    server.remove(endpoint)


def test_queue_delay_adds_a_worker_for_a_job_that_waits(server):
    endpoint = server.endpoint("sync", workersMax=2, scalerValue=1)
    jobs = [server.run(endpoint, {"sleep": 6}) for _ in range(2)]
    wait_until(lambda: len(server.workers(endpoint)) == 2, 20)
    assert {server.finish(endpoint, job)["status"] for job in jobs} == {"COMPLETED"}
    server.remove(endpoint)


def test_low_priority_starts_no_worker(server):
    endpoint = server.endpoint("sync")
    low = server.run(endpoint, {}, policy={"lowPriority": True})
    wait_until(lambda: "low priority" in server.get(f"/v2/{endpoint}/status/{low}").get("reason", ""), 10)
    assert server.workers(endpoint) == []
    server.do(endpoint, {})
    assert server.finish(endpoint, low)["status"] == "COMPLETED"
    server.remove(endpoint)


def test_template_change_replaces_workers_without_dropping_jobs(server):
    endpoint = server.endpoint("sync", template={"env": {"COLOUR": "red"}})
    code = {"python": "import os; result = os.environ['COLOUR']"}
    assert server.do(endpoint, code)["output"] == "red"
    running = server.run(endpoint, {"sleep": 2})
    wait_until(lambda: server.get(f"/v2/{endpoint}/status/{running}")["status"] == "IN_PROGRESS")
    shown = server.get(f"/v1/endpoints/{endpoint}")
    server.call("PATCH", f"/v1/templates/{shown['templateId']}", json={"env": {"COLOUR": "blue"}})
    assert server.get(f"/v1/endpoints/{endpoint}")["version"] == shown["version"] + 1
    assert server.do(endpoint, code)["output"] == "blue"
    done = server.finish(endpoint, running)
    assert done["status"] == "COMPLETED" and "retries" not in done
    server.remove(endpoint)


def test_execution_timeout_ends_job_and_worker(server):
    endpoint = server.endpoint("sync", executionTimeoutMs=5000)
    server.do(endpoint, {})
    done = server.do(endpoint, {"sleep": 60})
    assert done["status"] == "TIMED_OUT" and "5000 ms" in done["error"]
    again = server.do(endpoint, {})
    assert again["status"] == "COMPLETED" and again["workerId"] != done["workerId"]
    server.remove(endpoint)


def test_out_of_memory_is_named(server):
    endpoint = server.endpoint("sync")
    done = server.do(endpoint, {"python": "x = bytearray(3 << 30); result = len(x)"}, seconds=90)
    assert done["status"] == "FAILED" and "ran out of memory" in done["error"] and "1024 MiB" in done["error"]
    server.remove(endpoint)


def test_fork_bomb_stays_in_its_worker(server):
    endpoint = server.endpoint("sync")
    code = """
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60); os._exit(0)
        count += 1
except OSError as error:
    result = [count, error.errno]
"""
    done = server.do(endpoint, {"python": code}, seconds=90)
    # Stopped by the process limit or by memory, whichever comes first.
    assert done["status"] == "FAILED" or done["output"][0] < 2100
    server.remove(endpoint)
    wait_until(lambda: not [w for w in server.data.joinpath("workers").iterdir() if w.name == done.get("workerId")], 30)


def test_crashing_image_backs_off_and_says_why(server):
    endpoint = server.endpoint("sync", template={"dockerStartCmd": ["sh", "-c", "echo broken handler >&2; exit 7"]})
    job = server.run(endpoint, {})
    reason = wait_until(lambda: (r := server.get(f"/v2/{endpoint}/status/{job}").get("reason", "")) and "crash loop" in r and r, 20)
    assert "exited with code 7" in reason and "broken handler" in reason
    assert len(server.workers(endpoint)) <= 1
    server.remove(endpoint)


def test_missing_image_is_the_reason(server):
    endpoint = server.endpoint("sync", template={"imageName": "no/such:1"})
    job = server.run(endpoint, {})
    reason = wait_until(lambda: (r := server.get(f"/v2/{endpoint}/status/{job}").get("reason", "")) and "roost image import" in r and r, 60)
    assert "image missing" in reason and "no/such:1" in reason and "pulling it failed" in reason
    server.remove(endpoint)


def test_command_that_does_not_exist_is_the_reason(server):
    endpoint = server.endpoint("sync", template={"dockerStartCmd": ["/no/such/command"]})
    job = server.run(endpoint, {})
    wait_until(lambda: "/no/such/command" in server.get(f"/v2/{endpoint}/status/{job}").get("reason", ""), 20)
    server.remove(endpoint)


def test_worker_that_never_polls_is_stopped(server):
    template = {"dockerStartCmd": ["sleep", "1000"], "env": {"RUNPOD_INIT_TIMEOUT": "1"}}
    endpoint = server.endpoint("sync", template=template)
    job = server.run(endpoint, {})
    wait_until(lambda: "init timeout" in server.get(f"/v2/{endpoint}/status/{job}").get("reason", ""), 20)
    server.remove(endpoint)


def test_worker_that_ignores_sigterm_is_killed(server):
    endpoint = server.endpoint("sync")
    done = server.do(endpoint, {"python": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); result = 1"})
    server.call("DELETE", f"/v1/endpoints/{endpoint}/workers/{done['workerId']}", expect=204)
    wait_until(lambda: done["workerId"] not in [w["id"] for w in server.workers(endpoint)], 30)
    server.remove(endpoint)


def test_deleting_an_endpoint_removes_workers_and_jobs(server):
    endpoint = server.endpoint("sync")
    job = server.run(endpoint, {"sleep": 60})
    worker = wait_until(lambda: server.get(f"/v2/{endpoint}/status/{job}").get("workerId"), 30)
    server.remove(endpoint)
    server.get(f"/v2/{endpoint}/status/{job}", expect=404)
    wait_until(lambda: not (server.data / "workers" / worker).exists(), 20)
