"""The worker protocol, driven by the real runpod SDK inside real workers."""

import json
import time

import pytest
import requests
import runpod

from conftest import wait_until


@pytest.fixture(scope="module")
def sync(server):
    made = server.endpoint("sync")
    yield made
    server.remove(made)


@pytest.fixture(scope="module")
def generator(server):
    made = server.endpoint("generator")
    yield made
    server.remove(made)


def test_raised_error_fails_the_job(server, sync):
    done = server.do(sync, {"raise": "no luck"})
    error = json.loads(done["error"])
    assert done["status"] == "FAILED" and error["error_message"] == "no luck" and "ValueError" in error["error_type"]
    assert error["worker_id"] == done["workerId"]


def test_returned_error_dict_fails_the_job(server, sync):
    done = server.do(sync, {"error": "said so"})
    assert done["status"] == "FAILED" and done["error"] == "said so" and done["output"] == {"left": 1}


def test_progress_shows_while_running(server, sync):
    job = server.run(sync, {"progress": True, "sleep": 2})
    seen = wait_until(lambda: (s := server.get(f"/v2/{sync}/status/{job}")) and s.get("output", {}).get("step") is not None and s)
    assert seen["status"] in ("IN_PROGRESS", "COMPLETED")
    done = server.finish(sync, job)
    assert "echo" in done["output"]


def test_output_that_is_no_json_is_tried_again_and_fails(server, sync):
    done = server.do(sync, {"unserialisable": True})
    assert done["status"] == "FAILED" and done["retries"] == 1 and "JSON-serialisable" in done["error"]


def test_nan_becomes_null(server, sync):
    done = server.do(sync, {"nan": True})
    assert done["output"] == {"value": None, "more": [None, 1]}


def test_refresh_worker_replaces_it(server, sync):
    first = server.do(sync, {"refresh": True})
    assert first["status"] == "COMPLETED" and "refresh_worker" not in first["output"]
    second = server.do(sync, {})
    assert second["workerId"] != first["workerId"]


def test_worker_that_dies_loses_no_job(server, sync):
    done = server.do(sync, {"exit": 3})
    assert done["status"] == "FAILED" and done["retries"] == 1 and "exited with code 3" in done["error"]
    assert server.do(sync, {})["status"] == "COMPLETED"


def test_output_over_the_limit_fails_and_says_so(server, sync):
    done = server.do(sync, {"large": 21 << 20})
    assert done["status"] == "FAILED" and "output too large" in done["error"] and str(20 << 20) in done["error"]
    assert len(server.do(sync, {"large": 15 << 20})["output"]["data"]) == 15 << 20


def test_cancel_of_a_blocking_handler_replaces_the_worker(server, sync):
    server.do(sync, {})
    job = server.run(sync, {"sleep": 60})
    worker = wait_until(lambda: server.get(f"/v2/{sync}/status/{job}").get("workerId"))
    assert server.post(f"/v2/{sync}/cancel/{job}")["status"] == "CANCELLED"
    done = server.do(sync, {}, seconds=30)
    assert done["workerId"] != worker
    assert server.get(f"/v2/{sync}/status/{job}")["status"] == "CANCELLED"


def test_cancel_of_an_async_handler_keeps_the_worker(server):
    endpoint = server.endpoint("asynchronous")
    job = server.run(endpoint, {"sleep": 60})
    worker = wait_until(lambda: server.get(f"/v2/{endpoint}/status/{job}").get("workerId"), 30)
    server.post(f"/v2/{endpoint}/cancel/{job}")
    done = server.do(endpoint, {"sleep": 0}, seconds=30)
    assert done["workerId"] == worker
    server.remove(endpoint)


def test_concurrency_takes_batches(server):
    endpoint = server.endpoint("asynchronous", template={"env": {"CONCURRENCY": "4"}})
    server.do(endpoint, {"sleep": 0})
    jobs = [server.run(endpoint, {"sleep": 2}) for _ in range(8)]
    spans = [server.finish(endpoint, job)["output"] for job in jobs]
    moments = [span["begin"] for span in spans]
    assert max(sum(span["begin"] <= moment < span["end"] for span in spans) for moment in moments) >= 3
    assert len({span["pod"] for span in spans}) == 1
    server.remove(endpoint)


def test_generator_streams_to_the_sdk(server, generator):
    runpod.api_key = server.KEY
    runpod.endpoint_url_base = server.url + "/v2"
    job = runpod.Endpoint(generator).run({"input": {"count": 4, "pause": 0.2}})
    assert list(job.stream()) == [{"number": n} for n in range(4)]
    assert server.get(f"/v2/{generator}/status/{job.job_id}")["output"] == []


def test_stream_gives_each_chunk_once_and_ends_with_the_rest(server, generator):
    job = server.run(generator, {"count": 3})
    server.finish(generator, job)
    first = server.get(f"/v2/{generator}/stream/{job}")
    assert first["status"] == "COMPLETED" and [c["output"]["number"] for c in first["stream"]] == [0, 1, 2]
    assert server.get(f"/v2/{generator}/stream/{job}") == {"status": "COMPLETED", "stream": []}


def test_generator_that_fails_in_the_middle(server, generator):
    done = server.do(generator, {"count": 3, "fail_at": 1})
    assert done["status"] == "FAILED" and "stopped in the middle" in done["error"]


def test_aggregated_generator(server):
    endpoint = server.endpoint("generator", template={"env": {"AGGREGATE": "1"}})
    done = server.do(endpoint, {"count": 3})
    assert done["output"] == [{"number": n} for n in range(3)]
    server.remove(endpoint)


def test_worker_token_is_good_for_its_own_calls_only(server, sync):
    other = server.endpoint("sync", workersMax=0)
    got = server.do(sync, {"python": "import os; result = {k: v for k, v in os.environ.items() if k.startswith('RUNPOD')}"})
    env = got["output"]
    token, worker = env["RUNPOD_AI_API_KEY"], env["RUNPOD_POD_ID"]
    headers = {"Authorization": token}
    assert requests.get(f"{server.url}/v2/{sync}/ping/{worker}", headers=headers).status_code == 200
    assert server.get(f"/v1/endpoints/{sync}/workers/{worker}")["lastPingAt"]
    assert requests.get(f"{server.url}/v2/{other}/ping/{worker}", headers=headers).status_code == 401
    assert requests.get(f"{server.url}/v2/{sync}/job-take/otherworker?gpu=CPU", headers=headers).status_code == 401
    assert requests.get(f"{server.url}/v1/endpoints", headers=headers).status_code == 401
    assert requests.post(f"{server.url}/v2/{sync}/run", json={"input": {}}, headers=headers).status_code == 401
    assert requests.get(f"{server.url}/v2/{sync}/ping/{worker}", headers={"Authorization": server.KEY}).status_code == 401
    server.remove(other)


def test_late_and_foreign_results_are_ignored(server, sync):
    got = server.do(sync, {"python": "import os; result = dict(os.environ)"})["output"]
    headers = {"Authorization": got["RUNPOD_AI_API_KEY"]}
    parked = server.endpoint("sync", workersMax=0)
    job = server.run(parked, {})
    for target in (job, "nosuch"):
        url = f"{server.url}/v2/{sync}/job-done/{got['RUNPOD_POD_ID']}/{target}?gpu=CPU&isStream=false"
        assert requests.post(url, data='{"output": "forged"}', headers=headers).status_code == 200
    assert server.get(f"/v2/{parked}/status/{job}")["status"] == "IN_QUEUE"
    server.remove(parked)


def test_logs_are_kept_and_followed(server):
    endpoint = server.endpoint("sync")
    done = server.do(endpoint, {"python": "print('hello from', 'the handler'); result = 1"})
    path = f"/v1/endpoints/{endpoint}/workers/{done['workerId']}/logs"
    wait_until(lambda: any("hello from the handler" in line["line"] for line in server.get(path)["lines"]))
    with server.call("GET", path + "?follow=true", stream=True) as answer:
        seen = []
        server.run(endpoint, {"python": "print('and', 'again'); result = 1"})
        for line in answer.iter_lines():
            if line.startswith(b"data: "):
                seen.append(json.loads(line[6:])["line"])
            if any("and again" in text for text in seen):
                break
    server.remove(endpoint)
    # After the worker's end its log is still there.
    wait_until(lambda: not [w for w in server.data.joinpath("workers").iterdir() if w.name == done["workerId"]], 20)
    assert (server.data / "logs" / endpoint / f"{done['workerId']}.log").exists()


def test_flood_of_output_does_not_block_the_worker(server, sync):
    code = "import sys\nfor _ in range(300_000): sys.stderr.write('0123456789' * 10 + chr(10))\nresult = 'done'"
    done = server.do(sync, {"python": code})
    assert done.get("output") == "done"
    # Rotation bounds what is kept.
    log = server.data / "logs" / sync / f"{done['workerId']}.log"
    assert log.stat().st_size <= 10 << 20 and log.with_suffix(".log.1").stat().st_size <= 10 << 20
