"""Object stores as folders of a worker."""

import os
import pathlib
import signal

import pytest
from conftest import wait_until
from stores import Rclone


@pytest.fixture(scope="module")
def name(server, foreign):
    """The store's name at the server."""
    name = f"mount-{type(foreign).__name__.lower()}"
    server.post("/v1/objectstores", {"name": name, "prefix": "team", **foreign.fields})
    return name


@pytest.fixture(autouse=True)
def nothing_left(server, deploy):
    """Every endpoint of a test is gone after it, and so are its mounts."""
    yield
    deploy.remove()
    wait_until(lambda: not rclones(server), 30, "the mounts gone")


def rclones(server):
    """Ids of the rclone processes that mount for this server's workers."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"mount" in command and any(part.startswith(str(server.data).encode()) for part in command):
            found.append(int(process.name))
    return found


def test_a_store_is_a_folder(server, name, foreign, deploy):
    foreign.put("team/models/a/weights.bin", b"w" * 3_000_000)
    foreign.put("elsewhere", b"not below the prefix")
    endpoint = deploy(bucketMounts=[f"{name}:models=/models", f"{name}=/bucket:rw"])
    code = """
import os
open('/bucket/out.txt', 'w').write('made in the worker')
try:
    open('/models/no', 'w')
    wrote = True
except OSError:
    wrote = False
result = [sorted(os.listdir('/models/a')), os.path.getsize('/models/a/weights.bin'), open('/models/a/weights.bin', 'rb').read(4).decode(), wrote, sorted(os.listdir('/bucket'))]
"""
    done = server.do(endpoint, {"python": code})
    assert done["output"] == [["weights.bin"], 3_000_000, "wwww", False, ["models", "out.txt"]], done
    wait_until(lambda: "team/out.txt" in foreign.keys(), 20, "the file in the store")
    assert foreign.read("team/out.txt") == b"made in the worker"
    # The secret is in nobody's arguments.
    for process in rclones(server):
        assert foreign.secret.encode() not in pathlib.Path(f"/proc/{process}/cmdline").read_bytes()
    # What ends the worker ends the mount and leaves the store as it is.
    server.call("PATCH", f"/v1/endpoints/{endpoint}", json={"workersMax": 0})
    wait_until(lambda: not server.workers(endpoint) and not rclones(server), 40, "worker and mounts gone")
    assert {"team/models/a/weights.bin", "team/out.txt", "elsewhere"} <= set(foreign.keys())


def test_a_dead_mount_fails_the_job_and_says_so(server, name, foreign, deploy):
    endpoint = deploy(bucketMounts=[f"{name}=/bucket"])
    assert server.do(endpoint, {"x": 1})["status"] == "COMPLETED"
    for _ in range(2):
        # A job that is lost once is tried once more, on another worker with a mount of its own.
        if not _:
            job = server.run(endpoint, {"sleep": 60})
        wait_until(lambda: server.get(f"/v2/{endpoint}/status/{job}")["status"] == "IN_PROGRESS", 40, "the job running")
        holder = server.get(f"/v2/{endpoint}/status/{job}")["workerId"]
        mine = [process for process in rclones(server) if holder.encode() in pathlib.Path(f"/proc/{process}/cmdline").read_bytes()]
        os.kill(mine[0], signal.SIGKILL)
        wait_until(lambda: server.get(f"/v2/{endpoint}/status/{job}").get("workerId") != holder or
                   server.get(f"/v2/{endpoint}/status/{job}")["status"] == "FAILED", 40, "the job taken away")
    done = server.finish(endpoint, job)
    assert done["status"] == "FAILED" and "bucket mount at /bucket died" in done["error"], done


def test_a_store_that_hangs_does_not_hold_the_worker(server, deploy, tmp_path):
    """The store stops answering while a handler reads from it: the worker can still be stopped."""
    store = Rclone(tmp_path / "hanging")
    try:
        store.put("file", b"x" * 50_000_000)
        server.post("/v1/objectstores", {"name": "hanging", **store.fields})
        endpoint = deploy(bucketMounts=["hanging=/bucket"], executionTimeoutMs=5_000)
        assert server.do(endpoint, {"python": "import os; result = os.listdir('/bucket')"})["output"] == ["file"]
        store.process.send_signal(signal.SIGSTOP)
        done = server.do(endpoint, {"python": "result = len(open('/bucket/file', 'rb').read())"}, seconds=30)
        assert done["status"] == "TIMED_OUT", done
        server.call("PATCH", f"/v1/endpoints/{endpoint}", json={"workersMax": 0})
        wait_until(lambda: not server.workers(endpoint), 30, "the worker gone")
    finally:
        store.process.send_signal(signal.SIGCONT)
        store.stop()


def test_what_cannot_be_mounted(server, name, foreign, deploy):
    template = server.post("/v1/templates", {"name": f"never-{name}", "imageName": "none:1"})["id"]
    for bad, part in (("x", "STORE[:PREFIX]=/PATH"), ("none=/a", "no object store none"), (f"{name}=/proc/x", "belongs to the container"),
                      (f"{name}=relative", "STORE[:PREFIX]=/PATH"), (f"{name}=/a/../b", "STORE[:PREFIX]=/PATH"), (f"{name}=/", "STORE[:PREFIX]=/PATH")):
        answer = server.call("POST", "/v1/endpoints", json={"templateId": template, "bucketMounts": [bad]}, expect=400)
        assert part in answer.json()["error"], answer.text
    answer = server.call("POST", "/v1/endpoints", json={"templateId": template, "bucketMounts": [f"{name}=/a", f"{name}=/a"]}, expect=400)
    assert "twice" in answer.json()["error"]
    server.post("/v1/objectstores", {"name": f"wrong-{name}", **foreign.fields, "accessSecret": "wrong"})
    endpoint = deploy(bucketMounts=[f"wrong-{name}=/bucket"])
    job = server.run(endpoint, {})
    reason = wait_until(lambda: (text := server.get(f"/v2/{endpoint}/status/{job}").get("reason", "")) and "mount at /bucket" in text and text, 30, "the reason")
    assert "secret is wrong" in reason or "access key" in reason
    refused = server.call("DELETE", f"/v1/objectstores/wrong-{name}", expect=409)
    assert endpoint in refused.json()["error"]


def test_mounts_outlive_the_server(make_server, tmp_path):
    own = make_server(image=True)
    store = Rclone(tmp_path / "lasting")
    try:
        store.put("file", b"still here")
        own.post("/v1/objectstores", {"name": "lasting", **store.fields})
        endpoint = own.endpoint("sync", bucketMounts=["lasting=/bucket"])
        assert own.do(endpoint, {"x": 1})["status"] == "COMPLETED"
        before = own.workers(endpoint)[0]["id"]
        own.kill()
        own.start()
        done = own.do(endpoint, {"python": "result = open('/bucket/file').read()"})
        assert done["output"] == "still here" and done["workerId"] == before, done
        os.kill(rclones(own)[0], signal.SIGKILL)
        wait_until(lambda: before not in [worker["id"] for worker in own.workers(endpoint)], 30, "the worker replaced")
        own.remove(endpoint)
        wait_until(lambda: not rclones(own), 30, "the mounts gone")
        assert store.keys() == ["file"]
    finally:
        store.stop()
