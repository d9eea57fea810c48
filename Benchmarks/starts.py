"""`make bench-starts`: from a job to its result with a worker that is made, thawed, or taken from the spares; beside the same image
started by hand with crun, runc and podman, with the same handler and a job that waits for it."""

import concurrent.futures
import http.server
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "Acceptance"), str(ROOT / "Demo")]
import demo  # noqa: E402
import test_models  # noqa: E402
from conftest import Server, wait_until, worker_image  # noqa: E402

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
HANDLER = ["python3", "-u", "-c", (ROOT / "Acceptance/handlers/sync.py").read_text()]
# Times of Roost's fresh starts, for the ratios.
FRESH = []


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
    # The peers' containers have no limit, and this machine two cores.
    endpoint = server.endpoint("sync", workersMax=10, vcpuCount=2)
    times = []
    for _ in range(ROUNDS):
        gone(server, endpoint)
        times.append(runsync(server, endpoint))
    FRESH[:] = times
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


class JobServer:
    """What a container started by hand asks for its job: the least a worker of the SDK needs. The job ends the worker, a second later."""

    JOB = {"id": "job-1", "input": {"python": "import os, threading; threading.Timer(1, os._exit, [0]).start(); result = 1"}}

    def __init__(self):
        self.waiting, self.ended = threading.Event(), None
        jobs = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status, body=b""):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if "/job-take/" in self.path and jobs.waiting.is_set():
                    jobs.waiting.clear()
                    return self.answer(200, json.dumps(jobs.JOB).encode())
                if "/job-take/" not in self.path:
                    return self.answer(200)
                # Held, as every queue does: the worker ends meanwhile.
                time.sleep(2)
                return None

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.answer(200)
                jobs.ended = time.monotonic()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.env = {
            "RUNPOD_WEBHOOK_GET_JOB": f"{url}/job-take/$ID", "RUNPOD_WEBHOOK_POST_OUTPUT": f"{url}/job-done/$RUNPOD_POD_ID/$ID",
            "RUNPOD_WEBHOOK_PING": f"{url}/ping/$RUNPOD_POD_ID", "RUNPOD_POD_ID": "by-hand", "RUNPOD_AI_API_KEY": "none",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true"}

    def close(self):
        self.server.shutdown()


def peers(folder):
    rootfs = folder / "rootfs"
    rootfs.mkdir()
    subprocess.run(["tar", "-xf", worker_image(), "-C", rootfs], check=True)
    bundle = folder / "bundle"
    bundle.mkdir()
    jobs = JobServer()
    subprocess.run(["crun", "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["root"] = {"path": str(rootfs), "readonly": False}
    spec["process"].update(args=HANDLER, terminal=False)
    spec["process"]["env"] += [f"{name}={value}" for name, value in jobs.env.items()]
    spec["linux"]["namespaces"] = [space for space in spec["linux"]["namespaces"] if space["type"] not in ("network", "cgroup")]
    (bundle / "config.json").write_text(json.dumps(spec))
    for tool in ("crun", "runc"):
        measure(f"{tool} run, to first result", jobs, lambda number: [tool, "run", "--bundle", str(bundle), f"bench-{tool}-{os.getpid()}-{number}"])
    measure("podman run, to first result", jobs, lambda number: [
        "podman", "--storage-driver=vfs", "--root", str(folder / "podman"), "--runroot", str(folder / "podman-run"), "run", "--rm", "--network=host",
        "--cgroups=disabled", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
        *(option for name, value in jobs.env.items() for option in ("--env", f"{name}={value}")), "--rootfs", str(rootfs), *HANDLER])
    jobs.close()


def measure(name, jobs, command):
    times = []
    for number in range(ROUNDS):
        jobs.waiting.set()
        jobs.ended = None
        begin = time.monotonic()
        # Out of our mounts: crun 1.8.1 refuses Debian's hybrid cgroups, and the server does the same for itself.
        process = subprocess.Popen(["unshare", "--mount", "sh", "-c", "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"", "sh", *command(number)],
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out, _ = process.communicate(timeout=60)
        if not jobs.ended:
            return say(f"{name:<44} does not run here: {out.decode()[-200:].strip()}")
        times.append((jobs.ended - begin) * 1_000)
    show(name, times)
    if FRESH:
        say(f"{'':<44}Roost, fresh: {statistics.median(FRESH) / statistics.median(times):.2f} times as long")


def cold():
    """Files leave memory. What a container volume or an image is made of too: as after a night."""
    # A second after it was last read ahead for a start, it is again.
    time.sleep(1.2)
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def pages(server, endpoint, what):
    """Starts of one endpoint with cold pages, read ahead and not, in turns, and with warm ones."""
    times = {"cold pages, read ahead": [], "cold pages": [], "warm pages": []}
    runsync(server, endpoint)
    wait_until(lambda: server.get(f"/v1/endpoints/{endpoint}/warmpages")["files"], 60, "the pages recorded")
    known = server.get(f"/v1/endpoints/{endpoint}/warmpages")
    for _ in range(max(3, ROUNDS // 2)):
        for name, measured in times.items():
            # Without it the record goes: it is made again by the start before the next measured one.
            server.call("PATCH", f"/v1/endpoints/{endpoint}", json={"warmPages": name != "cold pages"})
            gone(server, endpoint)
            if not server.get(f"/v1/endpoints/{endpoint}/warmpages")["files"] and name != "cold pages":
                runsync(server, endpoint)
                wait_until(lambda: server.get(f"/v1/endpoints/{endpoint}/warmpages")["files"], 60, "the pages recorded")
                gone(server, endpoint)
            if name != "warm pages":
                cold()
            measured.append(runsync(server, endpoint))
            if name == "cold pages, read ahead":
                ahead = wait_until(lambda: server.get(f"/v1/endpoints/{endpoint}/starts")["recent"][0].get("warmPages"), 60, "the reading ahead done")
    for name, measured in times.items():
        show(f"{what}, {name}", measured, f"{known['bytes'] >> 20} MiB in {len(known['files'])} files, {ahead['coldBytes'] >> 20} MiB cold, in {ahead['ms']:.0f} ms" if "ahead" in name else "")
    say(f"{'':<44}read ahead: {statistics.median(times['cold pages']) / statistics.median(times['cold pages, read ahead']):.2f} times as fast as cold pages")
    server.remove(endpoint)


def volume_file(server):
    """A handler that reads 2 GiB from its network volume before it is ready, once its imports are done, as handlers do."""
    volume = server.post("/v1/networkvolumes", {"name": "weights", "size": 3, "dataCenterId": "LOCAL-1"})["id"]
    code = "data = open('/runpod-volume/weights', 'rb', 0)\nbuffer = bytearray(8 << 20)\nwhile data.readinto(buffer): pass\n"
    source = (ROOT / "Acceptance/handlers/sync.py").read_text().replace("runpod.serverless.start", code + "runpod.serverless.start")
    server.on_volume("weights", "f = open('weights', 'wb')\nb = os.urandom(8 << 20)\nfor _ in range(256): f.write(b)\nf.flush(); os.fsync(f.fileno())")
    pages(server, server.endpoint("sync", template={"dockerStartCmd": ["python3", "-u", "-c", source]}, networkVolumeId=volume, workersMax=1), "2 GiB read from a volume")


def real_model(server):
    """all-MiniLM-L6-v2, 90 MB, on a network volume and in its place by the demo's own code, loaded before the worker is ready."""
    image = demo.CACHE / "demo-image.tar"
    if not image.exists():
        subprocess.run([ROOT / "scripts/make-image.sh", image, *demo.PACKAGES], check=True)
    server.cli("image", "import", demo.IMAGE, str(image))
    volume = server.post("/v1/networkvolumes", {"name": "minilm", "size": 1, "dataCenterId": "LOCAL-1"})["id"]
    server.aws("s3", "sync", str(demo.fetch_model()), "s3://minilm/models/all-MiniLM-L6-v2", "--no-progress")
    handler = (ROOT / "Demo/handler.py").read_text().replace("runpod.serverless.start", "encoder = Encoder(MODEL)\nrunpod.serverless.start")
    source = handler.replace('given = job["input"]', 'given = {"query": "a", "sentences": ["b"], **job["input"]}')
    pages(server, server.endpoint("sync", template={"imageName": demo.IMAGE, "dockerStartCmd": ["python3", "-u", "-c", source]}, networkVolumeId=volume), "MiniLM, 90 MB")


def one_download(folder):
    """Eight cold endpoints want the same model at once."""
    model = demo.fetch_model()
    test_models.FILES = {path.name: path.read_bytes() for path in model.iterdir()}
    hub = test_models.Hub()
    (folder / "models").mkdir()
    server = Server(folder / "models", {"modelHubUrl": hub.url}).start()
    try:
        server.import_image()
        endpoints = [server.endpoint("sync", modelReferences=["hf:org/tiny"]) for _ in range(8)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            times = list(pool.map(lambda endpoint: runsync(server, endpoint), endpoints))
        sent, size = sum(len(test_models.FILES[name]) for name in hub.seen), sum(map(len, test_models.FILES.values()))
        show("8 cold endpoints, one model, first result", times, f"downloaded {sent / 1e6:.1f} MB of a model of {size / 1e6:.1f} MB: {sent / size:.2f} times")
        assert sent == size
    finally:
        server.close()
        hub.server.shutdown()


def main():
    with tempfile.TemporaryDirectory(prefix="roost-bench-", dir=os.environ.get("ROOST_TEST_DIR")) as folder:
        folder = pathlib.Path(folder)
        (folder / "roost").mkdir()
        server = Server(folder / "roost").start()
        try:
            server.import_image()
            parts = {
                "fresh": lambda: fresh(server), "peers": lambda: peers(folder), "thawed": lambda: thawed(server), "spare": lambda: spare(server),
                "burst": lambda: burst(server), "model": lambda: real_model(server), "volume": lambda: volume_file(server)}
            for part in sys.argv[1:] or parts:
                if part in parts:
                    parts[part]()
        finally:
            server.close()
        if not sys.argv[1:] or "download" in sys.argv:
            one_download(folder)


main()
