"""FlashBoot: workers parked at their idle timeout, spares parked ahead of demand, and what a start was made of."""

import os
import pathlib
import signal

import pytest
from conftest import wait_until


def states(server, endpoint):
    return sorted(worker["status"] for worker in server.workers(endpoint))


def parked(server, endpoint, count=1):
    return wait_until(lambda: (now := [worker for worker in server.workers(endpoint) if worker["status"] == "PARKED"]) and len(now) == count and now,
                      30, f"{count} parked workers")


@pytest.fixture
def deploy(deploy):
    def flashboot(own=None, **fields):
        return deploy(own=own, flashboot=True, **{"idleTimeout": 1, **fields})

    return flashboot


def frozen(worker):
    for path in (f"/sys/fs/cgroup/freezer/roost/{worker}/freezer.state", f"/sys/fs/cgroup/roost/{worker}/cgroup.freeze"):
        if os.path.exists(path):
            return pathlib.Path(path).read_text().strip() in ("FROZEN", "1")
    return False


def container_process(server, worker):
    return int((server.data / "workers" / worker / "container.pid").read_text())


def test_an_idle_worker_is_parked_and_thawed(server, deploy):
    endpoint = deploy(idleTimeout=3)
    first = server.do(endpoint, {"shell": "echo kept > /root/kept; cat /proc/sys/kernel/random/boot_id"})
    assert first["coldStart"] is True
    worker = parked(server, endpoint)[0]
    assert worker["id"] == first["workerId"] and frozen(worker["id"]) and worker["parkedAt"]
    # Neither at work nor ready: it counts for nothing but its memory.
    assert server.get(f"/v2/{endpoint}/health")["workers"] == {"idle": 0, "initializing": 0, "ready": 0, "running": 0, "throttled": 0, "unhealthy": 0}
    for _ in range(3):
        again = server.do(endpoint, {"shell": "cat /root/kept"})
        assert again["output"]["out"] == "kept\n" and again["workerId"] == first["workerId"] and again["coldStart"] is True, again
        assert "retries" not in again and again["delayTime"] < 1_000
        # While it runs it is as warm as any.
        assert server.do(endpoint, {"x": 1})["coldStart"] is False
        parked(server, endpoint)
    starts = server.get(f"/v1/endpoints/{endpoint}/starts")
    assert starts["fresh"]["count"] == 1 and starts["thawed"]["count"] == 3 and starts["spare"]["count"] == 0
    assert starts["thawed"]["p50"] < starts["fresh"]["p50"]
    steps = [step["step"] for step in starts["recent"][-1]["steps"]]
    assert steps == ["placed", "image", "containerVolume", "mounts", "process", "firstPoll", "firstJob", "firstResult"]
    times = [step["ms"] for step in starts["recent"][-1]["steps"]]
    assert times == sorted(times) and starts["recent"][0]["kind"] == "thawed"
    shown = server.cli("worker", "waterfall", endpoint, worker["id"]).stdout
    assert "thawed start at" in shown and "firstResult" in shown
    assert "spare" in server.cli("worker", "waterfall", endpoint).stdout


def test_spares_serve_a_burst_and_are_refilled(server, deploy):
    endpoint = deploy(spareWorkers=2, workersMax=2, scalerType="REQUEST_COUNT", scalerValue=1, idleTimeout=60)
    ahead = {worker["id"] for worker in parked(server, endpoint, 2)}
    assert server.get(f"/v1/endpoints/{endpoint}/starts")["fresh"]["count"] == 2
    jobs = [server.run(endpoint, {"shell": "sleep 1"}) for _ in range(2)]
    done = [server.finish(endpoint, job) for job in jobs]
    assert {job["workerId"] for job in done} == ahead and all(job["delayTime"] < 1_000 for job in done), done
    assert all(worker["start"]["kind"] == "spare" for worker in server.workers(endpoint) if worker["id"] in ahead)
    # Refilled behind it, over workersMax: they do not run.
    assert not {worker["id"] for worker in parked(server, endpoint, 2)} & ahead
    server.call("PATCH", f"/v1/endpoints/{endpoint}", json={"spareWorkers": 0, "flashboot": False})
    wait_until(lambda: "PARKED" not in states(server, endpoint), 30, "the spares gone")


def test_what_ends_a_parked_worker(server, deploy):
    endpoint = deploy()
    first = server.do(endpoint, {"x": 1})["workerId"]
    parked(server, endpoint)
    # A new version.
    template = server.get(f"/v1/endpoints/{endpoint}")["templateId"]
    server.call("PATCH", f"/v1/templates/{template}", json={"env": {"NEW": "1"}})
    wait_until(lambda: not server.workers(endpoint), 30, "the outdated worker gone")
    second = server.do(endpoint, {"shell": "echo $NEW"})
    assert second["output"]["out"] == "1\n" and second["workerId"] != first
    parked(server, endpoint)
    # By hand, and with the endpoint.
    server.call("DELETE", f"/v1/endpoints/{endpoint}/workers/{second['workerId']}", expect=204)
    wait_until(lambda: not server.workers(endpoint), 30, "the worker gone")
    third = server.do(endpoint, {"x": 1})["workerId"]
    parked(server, endpoint)
    process = container_process(server, third)
    server.remove(endpoint)
    wait_until(lambda: not os.path.exists(f"/proc/{process}"), 30, "its process gone")


def test_a_parked_worker_that_died_costs_no_job(server, deploy):
    endpoint = deploy()
    first = server.do(endpoint, {"x": 1})["workerId"]
    parked(server, endpoint)
    os.kill(container_process(server, first), signal.SIGKILL)
    # It cannot die while it is frozen: the thaw ends it, and the job goes to a fresh one.
    done = server.do(endpoint, {"x": 2})
    assert done["status"] == "COMPLETED" and done["workerId"] != first, done


def test_bounds(make_server, deploy):
    own = make_server({"parkedWorkers": 1}, image=True)
    one, two = deploy(own), deploy(own)
    own.do(one, {"x": 1})
    parked(own, one)
    own.do(two, {"x": 1})
    parked(own, two)
    # The one that was used longest ago goes.
    wait_until(lambda: not own.workers(one), 30, "the first one gone")
    assert own.do(one, {"x": 1})["status"] == "COMPLETED"
    # Where there is room for one alone, no spares are made in a circle.
    spare = deploy(own, spareWorkers=3)
    own.do(spare, {"x": 1})
    parked(own, spare)
    assert own.get(f"/v1/endpoints/{spare}/starts")["fresh"]["count"] <= 2


def test_no_room_for_a_worker_takes_a_parked_one_s_place(make_server, deploy):
    own = make_server({"dataCenters": [{"id": "SMALL-1", "vcpus": 4, "memoryGb": 1}]}, image=True)
    one, two = deploy(own), deploy(own)
    first = own.do(one, {"python": "keep = globals().setdefault('keep', b'x' * (200 << 20)); import builtins; builtins.kept = keep; result = len(keep)"})
    assert first["status"] == "COMPLETED", first
    parked(own, one)
    assert own.do(two, {"x": 1})["status"] == "COMPLETED"
    wait_until(lambda: not own.workers(one), 30, "the parked one gone")


def test_the_server_dies_and_comes_back(make_server, deploy):
    own = make_server(image=True)
    endpoint = deploy(own)
    first = own.do(endpoint, {"x": 1})["workerId"]
    parked(own, endpoint)
    own.kill()
    own.start()
    assert parked(own, endpoint)[0]["id"] == first
    done = own.do(endpoint, {"x": 2})
    assert done["workerId"] == first and "retries" not in done, done
    parked(own, endpoint)
    # Told to end, it leaves nothing frozen behind.
    process = container_process(own, first)
    assert own.terminate() == 0
    assert not os.path.exists(f"/proc/{process}")


def leftovers(own):
    """Folders and containers of workers that the server does not know."""
    known = {worker["id"] for endpoint in own.get("/v1/endpoints") for worker in own.workers(endpoint["id"])}
    folders = {path.name for path in (own.data / "workers").iterdir()} | {path.name for path in (own.data / "runtime").iterdir()}
    return folders - known


@pytest.mark.parametrize("step", ["disk.ext4", "config.json", "monitor.pid", "container.pid"])
def test_the_server_dies_while_it_starts_a_worker(make_server, deploy, step):
    own = make_server(image=True)
    endpoint = deploy(own)
    job = own.run(endpoint, {"x": 1})
    while not list((own.data / "workers").glob(f"*/{step}")):
        assert own.process.poll() is None
    own.kill()
    own.start()
    done = own.finish(endpoint, job)
    assert done["status"] == "COMPLETED" and done.get("retries", 0) <= 1, done
    wait_until(lambda: not leftovers(own), 30, "nothing left of what was begun")
    wait_until(lambda: len(own.loops()) <= 1, 30, "one disk for one worker")


@pytest.mark.parametrize("moment", ["parking", "thawing"])
def test_the_server_dies_while_it_parks_or_thaws(make_server, deploy, moment):
    own = make_server(image=True)
    endpoint = deploy(own)
    worker = own.do(endpoint, {"x": 1})["workerId"]
    # The kernel has it standing still before the server has noted it; the other way round it goes on before its job is given to it.
    while not frozen(worker):
        assert own.process.poll() is None
    job = None
    if moment == "thawing":
        parked(own, endpoint)
        job = own.run(endpoint, {"x": 2})
        while frozen(worker):
            assert own.process.poll() is None
    own.kill()
    own.start()
    done = own.finish(endpoint, job) if job else own.do(endpoint, {"x": 2})
    assert done["status"] == "COMPLETED" and done["workerId"] == worker, done
    assert parked(own, endpoint)[0]["id"] == worker and own.do(endpoint, {"x": 3})["workerId"] == worker
    assert not leftovers(own)


def test_a_machine_short_of_memory_takes_that_of_parked_workers(make_server, deploy):
    own = make_server(image=True)
    one, two = deploy(own), deploy(own, spareWorkers=1)
    own.do(one, {"x": 1})
    parked(own, one)
    own.do(two, {"x": 1})
    wait_until(lambda: states(own, two).count("PARKED") >= 1, 30, "one parked")
    # From now on there is less than there should be.
    own.kill()
    own.config["memoryReserveGb"] = 100_000
    own.start()
    wait_until(lambda: not own.workers(one) and not own.workers(two), 60, "all parked workers gone")
    assert "runs short of memory" in own.log.read_text()
    # Work goes on; what would be ahead of it does not.
    assert own.do(two, {"x": 2})["status"] == "COMPLETED"
    assert own.get(f"/v1/endpoints/{two}/starts")["fresh"]["count"] <= 4


def test_active_workers_are_not_parked(server, deploy):
    endpoint = deploy(workersMin=1, workersMax=2, scalerType="REQUEST_COUNT", scalerValue=1)
    jobs = [server.run(endpoint, {"shell": "sleep 1.5"}) for _ in range(2)]
    assert all(server.finish(endpoint, job)["status"] == "COMPLETED" for job in jobs)
    wait_until(lambda: states(server, endpoint) == ["IDLE", "PARKED"], 30, "one idle, one parked")
    server.call("PATCH", f"/v1/endpoints/{endpoint}", json={"workersMin": 2})
    wait_until(lambda: states(server, endpoint) == ["IDLE", "IDLE"], 30, "both active")
    assert server.get(f"/v1/endpoints/{endpoint}/starts")["fresh"]["count"] == 2
