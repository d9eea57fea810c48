"""Container volumes and network volumes, seen from inside real workers."""

import concurrent.futures
import json
import shutil
import subprocess
import threading

import pytest

from conftest import wait_until


def make_volume(server, size=1, center="LOCAL-1"):
    return server.post("/v1/networkvolumes", {"name": "data", "size": size, "dataCenterId": center})["id"]


@pytest.fixture(scope="module")
def volume(server):
    return make_volume(server)


@pytest.fixture(scope="module")
def endpoint(server, volume):
    made = server.endpoint("sync", networkVolumeId=volume)
    yield made
    server.remove(made)


@pytest.fixture(scope="module")
def twin(server, volume):
    """A second endpoint on the same volume."""
    made = server.endpoint("sync", networkVolumeId=volume)
    yield made
    server.remove(made)


def shell(server, endpoint, command):
    done = server.do(endpoint, {"shell": command})
    assert done["status"] == "COMPLETED", done
    return done["output"]


def python(server, endpoint, code):
    done = server.do(endpoint, {"python": code})
    assert done["status"] == "COMPLETED", done
    return done["output"]


# Container volume


def test_container_volume_is_the_root_and_shows_its_size(server, endpoint):
    lines = shell(server, endpoint, "df -B1 --output=size,target / | tail -1")["out"].split()
    assert lines[1] == "/" and 0.9 * (1 << 30) < int(lines[0]) <= 1 << 30


def test_container_volume_is_a_hard_limit_for_its_worker_only(server, endpoint, twin):
    code = """
import os
written = 0
try:
    with open('/fill', 'wb') as out:
        while True:
            out.write(bytes(1 << 20)); written += 1 << 20
except OSError as error:
    result = [error.errno, written]
finally:
    os.unlink('/fill')
"""
    number, written = python(server, endpoint, code)
    assert number == 28 and 0.8 * (1 << 30) < written < 1 << 30
    assert shell(server, twin, "dd if=/dev/zero of=/x bs=1M count=100 && rm /x")["code"] == 0


def test_job_that_failed_for_a_full_disk_says_so(server, endpoint):
    done = server.do(endpoint, {"python": "open('/fill', 'wb').write(bytes(100)); f = open('/fill', 'wb')\nwhile True: f.write(bytes(1 << 20))"})
    message = json.loads(done["error"])["error_message"]
    assert "No space left" in message and "container volume is full (limit 1 GB)" in message
    shell(server, endpoint, "rm -f /fill")


def test_handler_writes_are_gone_with_the_worker(server):
    own = server.endpoint("sync")
    first = server.do(own, {"shell": "echo secret > /root/left; sync; echo ok"})
    assert (server.data / "workers" / first["workerId"] / "disk.ext4").exists()
    server.call("DELETE", f"/v1/endpoints/{own}/workers/{first['workerId']}", expect=204)
    wait_until(lambda: not (server.data / "workers" / first["workerId"]).exists(), 20, "the worker's folder gone")
    assert not [loop for loop in server.loops() if first["workerId"] in loop]
    second = server.do(own, {"shell": "cat /root/left"})
    assert second["workerId"] != first["workerId"] and second["output"]["code"] != 0
    server.remove(own)


def test_worker_sees_neither_host_nor_others(server, endpoint):
    probe = shell(server, endpoint, f"ls {server.data} /work /home/* 2>&1; cat /proc/mounts | grep -c ext4")
    assert "No such file" in probe["out"] and "roost.sqlite" not in probe["out"]
    processes = shell(server, endpoint, "ls /proc | grep -E '^[0-9]+$' | wc -l")["out"]
    assert int(processes) < 15
    denied = python(server, endpoint, """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
result = {}
result['mount'] = libc.mount(b'none', b'/mnt', b'tmpfs', 0, None)
result['unshare'] = libc.unshare(0x10000000)
result['newuser'] = libc.syscall(56, 0x10000000 | 17, None, None, None, None)
if result['newuser'] == 0: os._exit(0)
result['mknod'] = -1
try: os.mknod('/dev/evil', 0o60600, os.makedev(7, 0))
except OSError: pass
else: result['mknod'] = 0
result['uname'] = os.uname().nodename
with open('/proc/self/status') as status:
    result['caps'] = [line for line in status if line.startswith('CapBnd')][0].split()[1]
""")
    assert denied["mount"] == denied["unshare"] == denied["newuser"] == denied["mknod"] == -1
    assert int(denied["caps"], 16) & (1 << 21 | 1 << 24 | 1 << 27 | 1 << 19 | 1 << 12) == 0
    assert denied["uname"] != subprocess.run(["uname", "-n"], capture_output=True, text=True).stdout.strip()


# Network volume


def test_network_volume_is_shared_and_survives_workers(server, endpoint, twin):
    shell(server, endpoint, "echo kept > /runpod-volume/file")
    assert shell(server, twin, "cat /runpod-volume/file")["out"] == "kept\n"
    worker = server.workers(endpoint)[0]["id"]
    server.call("DELETE", f"/v1/endpoints/{endpoint}/workers/{worker}", expect=204)
    wait_until(lambda: worker not in [w["id"] for w in server.workers(endpoint)], 20)
    assert shell(server, endpoint, "cat /runpod-volume/file")["out"] == "kept\n"


def test_volume_says_who_has_it_and_what_is_used(server, volume, endpoint, twin):
    shell(server, endpoint, "dd if=/dev/zero of=/runpod-volume/big bs=1M count=200 && sync")
    shell(server, twin, "true")
    shown = server.get(f"/v1/networkvolumes/{volume}")
    assert shown["usedBytes"] > 200 << 20 and shown["usedBytes"] + shown["availableBytes"] <= 1 << 30
    running = {w["id"] for e in (endpoint, twin) for w in server.workers(e)}
    assert set(shown["mountedBy"]) == running and len(running) == 2
    assert sorted(shown["endpointIds"]) == sorted([endpoint, twin])
    shell(server, endpoint, "rm /runpod-volume/big")


COUNT = """
import fcntl, os, time
path = '/runpod-volume/counter-{kind}'
for _ in range({times}):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    {lock}(fd, fcntl.LOCK_EX)
    number = int(os.pread(fd, 20, 0) or b'0')
    time.sleep(0.001)
    os.pwrite(fd, str(number + 1).encode(), 0)
    os.close(fd)
result = 'done'
"""


@pytest.mark.parametrize("kind, lock", [("flock", "fcntl.flock"), ("fcntl", "fcntl.lockf")])
def test_locks_work_between_workers(server, endpoint, twin, kind, lock):
    code = COUNT.format(kind=kind, lock=lock, times=200)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda e: python(server, e, code), [endpoint, twin])) == ["done", "done"]
    assert shell(server, endpoint, f"cat /runpod-volume/counter-{kind}")["out"] == "400"


def test_rename_is_atomic_and_mmap_is_shared(server, endpoint, twin):
    shell(server, endpoint, "echo 1 > /runpod-volume/a; mv /runpod-volume/a /runpod-volume/b")
    assert shell(server, twin, "cat /runpod-volume/b; ls /runpod-volume/a")["out"] == "1\n"
    code = "import mmap; f = open('/runpod-volume/map', 'w+b'); f.truncate(4096); m = mmap.mmap(f.fileno(), 4096); m[0:5] = b'hello'; m.flush(); result = 1"
    python(server, endpoint, code)
    read = "import mmap; f = open('/runpod-volume/map', 'r+b'); result = mmap.mmap(f.fileno(), 4096)[0:5].decode()"
    assert python(server, twin, read) == "hello"


def test_full_network_volume_stops_its_writers_only(server, endpoint, twin):
    shell(server, twin, "echo b > /runpod-volume/b")
    done = server.do(endpoint, {"python": "f = open('/runpod-volume/fill', 'wb')\nwhile True: f.write(bytes(1 << 20))"})
    message = json.loads(done["error"])["error_message"]
    assert "network volume" in message and "is full" in message
    assert shell(server, twin, "cat /runpod-volume/b && echo fine > /local")["code"] == 0
    shell(server, endpoint, "rm /runpod-volume/fill")


def test_volume_grows_while_mounted(server, endpoint, volume):
    shell(server, endpoint, "true")
    worker = server.workers(endpoint)[0]["id"]
    before = int(shell(server, endpoint, "df -B1 --output=size /runpod-volume | tail -1")["out"])
    assert server.call("PATCH", f"/v1/networkvolumes/{volume}", json={"size": 2}).json()["size"] == 2
    after = int(shell(server, endpoint, "df -B1 --output=size /runpod-volume | tail -1")["out"])
    assert before < 1 << 30 < after <= 2 << 30
    assert server.workers(endpoint)[0]["id"] == worker
    error = server.call("PATCH", f"/v1/networkvolumes/{volume}", json={"size": 1}, expect=400).json()["error"]
    assert "only grows" in error and "2 to 4096" in error


def test_volume_in_use_is_not_deleted(server, endpoint, volume):
    error = server.call("DELETE", f"/v1/networkvolumes/{volume}", expect=409).json()["error"]
    assert endpoint in error


def test_deleted_volume_is_gone(server):
    made = make_volume(server)
    file = server.data / "volumes/LOCAL-1" / f"{made}.xfs"
    assert file.stat().st_blocks * 512 >= 1 << 30
    server.call("DELETE", f"/v1/networkvolumes/{made}", expect=204)
    server.get(f"/v1/networkvolumes/{made}", expect=404)
    assert not file.exists() and not [loop for loop in server.loops() if made in loop]


def test_volume_larger_than_the_disk_is_refused_and_leaves_nothing(server):
    free = []
    watching = threading.Event()

    def watch():
        while not watching.is_set():
            free.append(shutil.disk_usage(server.data).free)

    thread = threading.Thread(target=watch)
    thread.start()
    answer = server.call("POST", "/v1/networkvolumes", json={"name": "x", "size": 4096, "dataCenterId": "LOCAL-1"}, expect=507)
    watching.set()
    thread.join()
    assert "no room" in answer.json()["error"]
    # Not even for a moment may the refusal fill the disk of everybody else.
    assert min(free) > max(free) / 2
    assert all(volume["size"] != 4096 for volume in server.get("/v1/networkvolumes"))
