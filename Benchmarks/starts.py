"""`make bench-starts`: from a job to its result with a worker that is made, thawed, or taken from the spares; beside the same image
started by hand with crun, runc and podman, until its handler could take a job."""

import concurrent.futures
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Acceptance"))
from conftest import Server, wait_until, worker_image  # noqa: E402

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
READY = ["python3", "-u", "-c", "import runpod, os; os.write(1, b'ready\\n')"]


def say(text=""):
    print(text, flush=True)


def show(name, times, more=""):
    ordered = sorted(times)
    say(f"{name:<44}{statistics.median(ordered):>8.0f} ms median {ordered[-1]:>8.0f} ms slowest   {more}")


def runsync(server, endpoint, **more):
    begin = time.monotonic()
    done = server.post(f"/v2/{endpoint}/runsync", {"input": {"x": 1}, **more})
    assert done["status"] == "COMPLETED", done
    return (time.monotonic() - begin) * 1_000


def gone(server, endpoint):
    server.call("PATCH", f"/v1/endpoints/{endpoint}", json={"workersMax": 0})
    wait_until(lambda: not server.workers(endpoint), 60, "workers gone")
    server.call("PATCH", f"/v1/endpoints/{endpoint}", json={"workersMax": 10})


def parked(server, endpoint, count):
    wait_until(lambda: sum(worker["status"] == "PARKED" for worker in server.workers(endpoint)) >= count, 60, "parked workers")


def fresh(server):
    endpoint = server.endpoint("sync", workersMax=10)
    times = []
    for _ in range(ROUNDS):
        gone(server, endpoint)
        times.append(runsync(server, endpoint))
    starts = server.get(f"/v1/endpoints/{endpoint}/starts")["recent"]
    ours = [next(step["ms"] for step in start["steps"] if step["step"] == "process") for start in starts]
    show("Roost, fresh, to first result", times, f"of it ours (decision to process): p50 {statistics.median(ours):.0f}, most {max(ours):.0f} ms   (aim: 150, 300)")
    return endpoint


def thawed(server):
    endpoint = server.endpoint("sync", flashboot=True, idleTimeout=1)
    runsync(server, endpoint)
    times = []
    for _ in range(max(ROUNDS, 15)):
        parked(server, endpoint, 1)
        times.append(runsync(server, endpoint))
    figures = server.get(f"/v1/endpoints/{endpoint}/starts")["thawed"]
    show("Roost, thawed, to first result", times, f"until the handler had the job: p50 {figures['p50']}, p98 {figures['p98']} ms   (aim: 10, 50)")
    server.remove(endpoint)


def spare(server):
    endpoint = server.endpoint("sync", flashboot=True, idleTimeout=60, spareWorkers=ROUNDS, workersMax=ROUNDS, scalerType="REQUEST_COUNT", scalerValue=1)
    parked(server, endpoint, ROUNDS)
    with concurrent.futures.ThreadPoolExecutor(ROUNDS) as pool:
        times = list(pool.map(lambda _: runsync(server, endpoint), range(ROUNDS)))
    figures = server.get(f"/v1/endpoints/{endpoint}/starts")["spare"]
    show(f"Roost, {ROUNDS} spares for {ROUNDS} jobs at once", times, f"until the handler had the job: p50 {figures['p50']}, p98 {figures['p98']} ms")
    server.remove(endpoint)


def burst(server):
    """Ten fresh ones at once: on two cores their imports take turns."""
    endpoint = server.endpoint("sync", workersMax=10, scalerType="REQUEST_COUNT", scalerValue=1)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda _: runsync(server, endpoint), range(10)))
    starts = server.get(f"/v1/endpoints/{endpoint}/starts")["recent"]
    ours = [next(step["ms"] for step in start["steps"] if step["step"] == "process") for start in starts]
    show("Roost, ten fresh at once, ours of each", ours, "(aim: 150, 300)")
    server.remove(endpoint)


def peers(folder):
    rootfs = folder / "rootfs"
    rootfs.mkdir()
    subprocess.run(["tar", "-xf", worker_image(), "-C", rootfs], check=True)
    bundle = folder / "bundle"
    bundle.mkdir()
    subprocess.run(["crun", "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["root"] = {"path": str(rootfs), "readonly": False}
    spec["process"].update(args=READY, terminal=False)
    spec["linux"]["namespaces"] = [space for space in spec["linux"]["namespaces"] if space["type"] not in ("network", "cgroup")]
    (bundle / "config.json").write_text(json.dumps(spec))
    for tool in ("crun", "runc"):
        measure(f"{tool} run, until its handler could run", lambda number: [tool, "run", "--bundle", str(bundle), f"bench-{tool}-{os.getpid()}-{number}"])
    if shutil.which("podman"):
        measure("podman run, until its handler could run", lambda number: [
            "podman", "--storage-driver=vfs", "--root", str(folder / "podman"), "--runroot", str(folder / "podman-run"), "run", "--rm", "--network=host",
            "--cgroups=disabled", "--ulimit", "nofile=1024:1024", "--rootfs", str(rootfs), *READY])


def measure(name, command):
    times = []
    for number in range(ROUNDS):
        begin = time.monotonic()
        # Out of our mounts: crun 1.8.1 refuses Debian's hybrid cgroups, and the server does the same for itself.
        process = subprocess.Popen(["unshare", "--mount", "sh", "-c", "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"", "sh", *command(number)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        line = process.stdout.readline()
        if line != b"ready\n":
            return say(f"{name:<44} does not run here: {process.stderr.read().decode()[-200:].strip()}")
        times.append((time.monotonic() - begin) * 1_000)
        process.wait()
    show(name, times)


def volume_file(server):
    """A handler that reads 2 GiB from its network volume before it is ready, with cold pages and with warm ones."""
    volume = server.post("/v1/networkvolumes", {"name": "weights", "size": 3, "dataCenterId": "LOCAL-1"})["id"]
    code = "data = open('/runpod-volume/weights', 'rb', 0)\nimport os\nbuffer = bytearray(8 << 20)\nwhile data.readinto(buffer): pass\n"
    source = code + (ROOT / "Acceptance/handlers/sync.py").read_text()
    endpoint = server.endpoint("sync", template={"dockerStartCmd": ["python3", "-u", "-c", source]}, networkVolumeId=volume, workersMax=1)
    server.on_volume("weights", "f = open('weights', 'wb')\nb = os.urandom(8 << 20)\nfor _ in range(256): f.write(b)\nf.flush(); os.fsync(f.fileno())")
    gone(server, endpoint)
    for name in ("cold", "warm"):
        if name == "cold":
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        show(f"Roost, fresh, reads 2 GiB first, {name} pages", [runsync(server, endpoint)])
        gone(server, endpoint)


def main():
    with tempfile.TemporaryDirectory(prefix="roost-bench-", dir=os.environ.get("ROOST_TEST_DIR")) as folder:
        folder = pathlib.Path(folder)
        (folder / "roost").mkdir()
        server = Server(folder / "roost").start()
        try:
            server.import_image()
            fresh(server)
            peers(folder)
            thawed(server)
            spare(server)
            burst(server)
            volume_file(server)
        finally:
            server.close()


main()
