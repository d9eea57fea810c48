"""Warm pages: what a worker read until it was ready is recorded, and brought into memory ahead of the next."""

import os

import pytest
from conftest import HANDLERS, wait_until

MIB = 1 << 20
HANDLER = (HANDLERS / "sync.py").read_text()
READ = "f = open('/runpod-volume/weights', 'rb', 0)\nf.seek(8 << 20)\nassert len(f.read(1 << 20)) == 1 << 20\nf.close()\n"
# Its pages leave memory: once they are on the disk they may.
EVICT = "f = os.open('weights', os.O_RDONLY)\nos.fsync(f)\nos.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)\n"
WRITE = "open('weights', 'wb').write(os.urandom(32 << 20))\n" + EVICT


@pytest.fixture
def volume(server):
    made = server.post("/v1/networkvolumes", {"name": f"warm-{os.urandom(4).hex()}", "size": 1, "dataCenterId": "LOCAL-1"})
    yield made
    wait_until(lambda: server.call("DELETE", f"/v1/networkvolumes/{made['id']}", expect=(204, 409)).status_code == 204, 30, "the volume free")


@pytest.fixture
def start(server, volume, deploy):
    """Deploys a handler with code before its start; the function it gives has a fresh worker do a job, and returns the start's record."""
    def with_code(code, **fields):
        endpoint = deploy(template={"dockerStartCmd": ["python3", "-u", "-c", code + HANDLER]}, networkVolumeId=volume["id"], **fields)

        def fresh():
            server.call("PATCH", f"/v1/endpoints/{endpoint}", json={"workersMax": 0})
            wait_until(lambda: not server.workers(endpoint), 30, "the worker gone")
            server.call("PATCH", f"/v1/endpoints/{endpoint}", json={"workersMax": 1})
            done = server.do(endpoint, {"x": 1})
            assert done["status"] == "COMPLETED", done
            return server.get(f"/v1/workers/{done['workerId']}/starts")["starts"][0]

        fresh.endpoint = endpoint
        return fresh

    return with_code


def recorded(server, endpoint, check=lambda pages: pages["files"]):
    def pages():
        found = server.get(f"/v1/endpoints/{endpoint}/warmpages")
        return check(found) and found

    return wait_until(pages, 30, "what was read recorded")


def of_volume(pages, volume):
    return [file for file in pages["files"] if file["source"] == f"volume:{volume['id']}"]


def test_what_is_read_is_recorded_and_read_ahead(server, volume, start):
    server.on_volume(volume["name"], WRITE)
    fresh = start(READ)
    assert "warmPages" not in fresh()
    pages = recorded(server, fresh.endpoint)
    [weights] = of_volume(pages, volume)
    assert weights["path"] == "weights" and weights["size"] == 32 * MIB
    # What it read and what the kernel read around it, not the whole file.
    assert any(part["offset"] <= 8 * MIB and 9 * MIB <= part["offset"] + part["length"] for part in weights["extents"]), weights
    assert weights["bytes"] < 32 * MIB
    # The image's own: the interpreter and its modules, in the order they were opened.
    layers = [file for file in pages["files"] if file["source"].startswith("layer:")]
    assert len(layers) > 100 and any(file["path"].startswith("usr/bin/python3") for file in layers[:5])
    assert pages["bytes"] == sum(file["bytes"] for file in pages["files"])
    server.on_volume(volume["name"], EVICT)
    ahead = wait_until(lambda: fresh().get("warmPages"), 60, "a start with pages read ahead")
    assert ahead["files"] == len(pages["files"]) and ahead["bytes"] == pages["bytes"] and ahead["changedFiles"] == 0
    assert MIB <= ahead["coldBytes"] <= pages["bytes"], ahead
    worker = server.get(f"/v1/endpoints/{fresh.endpoint}/starts")["recent"][0]["workerId"]
    shown = server.cli("worker", "waterfall", worker).stdout
    assert "read ahead beside it" in shown and "weights" in shown and "warmPages" in shown, shown
    assert len(server.cli("worker", "waterfall", fresh.endpoint, worker, "--files").stdout.splitlines()) > len(pages["files"])


def test_a_changed_file_is_noticed_and_recorded_anew(server, volume, start):
    server.on_volume(volume["name"], WRITE)
    fresh = start(READ)
    fresh()
    first = recorded(server, fresh.endpoint)
    server.on_volume(volume["name"], "os.truncate('weights', 16 << 20)")
    assert wait_until(lambda: fresh().get("warmPages"), 60, "a start with pages read ahead")["changedFiles"] == 1
    # That start is over when the next one begins: it or the next makes the new record.
    fresh()
    again = recorded(server, fresh.endpoint, lambda pages: pages.get("recordedAt") != first["recordedAt"])
    assert [file["size"] for file in of_volume(again, volume)] == [16 * MIB]


def test_it_can_be_switched_off(server, volume, start):
    fresh = start("", warmPages=False)
    fresh()
    assert server.get(f"/v1/endpoints/{fresh.endpoint}")["warmPages"] is False
    assert "warmPages" not in fresh()
    assert server.get(f"/v1/endpoints/{fresh.endpoint}/warmpages") == {"bytes": 0, "files": []}
    server.call("PATCH", f"/v1/endpoints/{fresh.endpoint}", json={"warmPages": True})
    fresh()
    recorded(server, fresh.endpoint)
    server.call("DELETE", f"/v1/endpoints/{fresh.endpoint}/warmpages", expect=204)
    assert server.get(f"/v1/endpoints/{fresh.endpoint}/warmpages")["files"] == []
    server.call("PATCH", f"/v1/endpoints/{fresh.endpoint}", json={"warmPages": "yes"}, expect=400)


def test_what_a_worker_does_to_its_files_leads_nowhere_else(server, volume, start):
    """Links out of the volume, pipes in the place of files, files that are gone, and more opens than anybody records."""
    code = """
import os
os.chdir('/runpod-volume')
for name in ('link', 'pipe', 'gone', 'kept'):
    with open(name, 'wb') as f: f.write(os.urandom(1 << 20))
    open(name, 'rb').read()
os.remove('link'); os.symlink('/etc/shadow', 'link')
os.remove('pipe'); os.mkfifo('pipe')
os.remove('gone')
os.makedirs('deep', exist_ok=True)
for number in range(20000): open('/proc/self/status').close()
for number in range(20000): open(f'/tmp/{number}', 'w').close()
"""
    fresh = start(code)
    fresh()
    pages = recorded(server, fresh.endpoint)
    assert [file["path"] for file in of_volume(pages, volume)] == ["kept"]
    assert all(file["source"].startswith(("layer:", "volume:")) for file in pages["files"])
    # Somebody else puts a link where a recorded file was.
    server.on_volume(volume["name"], "os.remove('kept'); os.symlink('/etc/passwd', 'kept'); os.remove('link'); os.remove('pipe')")
    assert wait_until(lambda: fresh().get("warmPages"), 60, "a start with pages read ahead")["changedFiles"] == 1


def test_a_worker_that_never_becomes_ready_is_no_record(server, volume, deploy):
    endpoint = deploy(template={"dockerStartCmd": ["python3", "-c", "open('/runpod-volume/x', 'w')"]}, networkVolumeId=volume["id"])
    server.run(endpoint, {"x": 1})
    wait_until(lambda: server.get(f"/v2/{endpoint}/health")["workers"]["unhealthy"], 30, "a worker that ended")
    assert server.get(f"/v1/endpoints/{endpoint}/warmpages")["files"] == []


def test_starts_and_records_outlive_the_server(make_server, deploy):
    own = make_server(image=True)
    endpoint = deploy(own)
    worker = own.do(endpoint, {"x": 1})["workerId"]
    pages = recorded(own, endpoint)
    other = deploy(own)
    own.do(other, {"x": 1})
    own.call("DELETE", f"/v1/endpoints/{other}", expect=204)
    starts = own.get(f"/v1/endpoints/{endpoint}/starts")
    assert own.terminate() == 0
    own.start()
    assert own.get(f"/v1/endpoints/{endpoint}/starts") == starts and starts["fresh"]["count"] == 1
    # The worker is gone, its start is not.
    assert own.get(f"/v1/workers/{worker}/starts")["starts"] == starts["recent"]
    assert own.get(f"/v1/endpoints/{endpoint}/warmpages") == pages
    assert os.listdir(own.data / "warmpages") == [f"{endpoint}.json"]
    assert "fresh start at" in own.cli("worker", "waterfall", worker).stdout
    assert "there is no start of a worker" in own.cli("worker", "waterfall", "nobody", code=1).stderr
