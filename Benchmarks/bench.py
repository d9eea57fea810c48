"""`make bench`: what the queue, the disks and the starts cost, beside a named peer or the bare host, in one run."""

import concurrent.futures
import http.client
import importlib.util
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Acceptance"))
from conftest import IMAGE, ROOST, Server, wait_until  # noqa: E402

SECONDS = int(os.environ.get("BENCH_SECONDS", "10"))


def say(text=""):
    print(text, flush=True)


def need(package, *packages):
    """Tools only the benchmarks use."""
    subprocess.run([ROOT / "scripts/setup.sh", package, *packages], check=True)


def accepts(server):
    endpoint = server.parked_endpoint()
    done = subprocess.run(
        ["wrk", "-t2", "-c64", f"-d{SECONDS}s", "--latency", "-s", str(ROOT / "Benchmarks/accept.lua"), f"{server.url}/v2/{endpoint}/run"],
        capture_output=True, text=True, check=True, env={**os.environ, "ROOST_KEY": server.KEY})
    figures = json.loads(re.search(r"RESULT (.*)", done.stdout).group(1))
    queued = server.get(f"/v2/{endpoint}/health")["jobs"]["inQueue"]
    say(f"durable accepts, 64 connections:   {figures['rate']:.0f}/s, p50 {figures['p50_ms']} ms, p99 {figures['p99_ms']} ms, "
        f"{figures['refused']} refused, {queued} in the queue   (aim: 10000/s, p99 < 25 ms)")
    figures["python"] = python_accepts(server, endpoint)
    say(f"  the same from 8 Python processes: {figures['python']:.0f}/s")
    server.remove(endpoint)
    return figures


def python_accepts(server, endpoint):
    """The client RQ has to use is Python: the same for us, so that ratios compare servers and not languages."""
    code = f"""
import http.client, sys, time
connection = http.client.HTTPConnection("127.0.0.1", {server.port})
end, count = time.time() + {SECONDS / 2}, 0
while time.time() < end:
    connection.request("POST", "/v2/{endpoint}/run", '{{"input":{{"prompt":"a small job","steps":20}}}}', {{"Authorization": "{server.KEY}"}})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    count += 1
print(count / {SECONDS / 2})
"""
    return sum(parallel_python(code, 8))


def parallel_python(code, count):
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [float(process.communicate()[0]) for process in processes]


class Redis:
    """Redis as durable as we are: every command is on the disk before it is answered."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="roost-redis-", dir=os.environ.get("ROOST_TEST_DIR"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--appendonly", "yes",
             "--appendfsync", "always", "--save", ""], stdout=subprocess.DEVNULL)

        def answers():
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", self.port)) == 0

        wait_until(answers, 10)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)


def rq(figures):
    site = pathlib.Path(os.environ["ROOST_CACHE"]) / "bench-site"
    if not (site / "rq").exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), "rq", "redis"], check=True,
                       stderr=subprocess.DEVNULL)
    with Redis() as redis:
        prefix = f"""
import sys, time
sys.path.insert(0, {str(site)!r})
sys.path.insert(0, {str(ROOT / 'Benchmarks')!r})
import redis, rq
queue = rq.Queue(connection=redis.Redis(port={redis.port}))
"""
        rate = sum(parallel_python(prefix + f"""
end, count = time.time() + {SECONDS / 2}, 0
while time.time() < end:
    queue.enqueue("rqjob.stamp", {{"prompt": "a small job", "steps": 20}})
    count += 1
print(count / {SECONDS / 2})
""", 8))
        say(f"RQ on Redis (appendfsync always), 8 Python processes: {rate:.0f}/s   "
            f"Roost from Python is {figures['python'] / rate:.1f} times that, from wrk {figures['rate'] / rate:.1f} times")
        subprocess.run(["redis-cli", "-p", str(redis.port), "flushall"], stdout=subprocess.DEVNULL, check=True)
        worker = subprocess.Popen([sys.executable, "-c", prefix + "rq.SimpleWorker([queue], connection=queue.connection).work(logging_level='ERROR')"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            code = prefix + """
waits = []
for _ in range(60):
    begin = time.time()
    job = queue.enqueue("rqjob.stamp", {})
    while job.get_status(refresh=True) != "finished": time.sleep(0.002)
    waits.append((job.return_value() - begin) * 1000)
print(sorted(waits)[len(waits) // 2])
"""
            figures["rq_handoff"] = parallel_python(code, 1)[0]
        finally:
            worker.kill()
            worker.wait()


def handoff(server, figures):
    """We play a worker over the wire, with the token of a real one that only sleeps: what is timed is Roost alone."""
    endpoint = server.endpoint("sync", template={"dockerStartCmd": ["sh", "-c", "env; exec sleep 600"], "env": {"RUNPOD_INIT_TIMEOUT": "600"}},
                               workersMin=1)
    worker = wait_until(lambda: server.workers(endpoint), 30)[0]["id"]

    def token():
        answer = server.call("GET", f"/v1/endpoints/{endpoint}/workers/{worker}/logs", expect=None)
        lines = answer.json().get("lines", [])
        return next((line["line"].split("=", 1)[1] for line in lines if line["line"].startswith("RUNPOD_AI_API_KEY=")), None)

    headers = {"Authorization": wait_until(token, 30)}
    poll, submit = (http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(2))
    waits, accepts = [], []
    parked = threading.Semaphore(0)

    def take(count):
        for _ in range(count):
            poll.request("GET", f"/v2/{endpoint}/job-take/{worker}?gpu=CPU&job_in_progress=0", headers=headers)
            parked.release()
            answer = poll.getresponse()
            body = answer.read()
            arrived.append(time.perf_counter())
            poll.request("POST", f"/v2/{endpoint}/job-done/{worker}/{json.loads(body)['id']}?gpu=CPU&isStream=false", '{"output":1}', headers)
            poll.getresponse().read()

    arrived = []
    thread = threading.Thread(target=take, args=(200,))
    thread.start()
    for number in range(200):
        parked.acquire()
        time.sleep(0.003)
        begin = time.perf_counter()
        submit.request("POST", f"/v2/{endpoint}/run", '{"input":{}}', {"Authorization": server.KEY})
        submit.getresponse().read()
        accepts.append(time.perf_counter() - begin)
        wait_until(lambda: len(arrived) > number, 10)
        waits.append(arrived[number] - begin)
    thread.join()
    median = statistics.median(waits) * 1000
    line = f"accept to hand-off, waiting worker: p50 {median:.2f} ms, p99 {sorted(waits)[197] * 1000:.2f} ms   (aim: p50 < 5 ms)"
    if "rq_handoff" in figures:
        line += f"; RQ p50 {figures['rq_handoff']:.2f} ms, {figures['rq_handoff'] / median:.1f} times ours"
    say(line)
    server.remove(endpoint)


def container_volumes():
    folder = tempfile.mkdtemp(prefix="roost-bench-", dir=os.environ.get("ROOST_TEST_DIR"))
    try:
        for size in (1, 20, 200):
            done = subprocess.run([str(ROOST), "bench-disk", "--data-dir", folder, "--size", str(size)], capture_output=True, text=True, check=True)
            figures = json.loads(done.stdout)
            say(f"container volume of {size:3} GB: create {figures['create_ms']:.1f} + wipe {figures['wipe_ms']:.1f} ms, "
                f"together p50 {figures['both_ms']:.1f} ms (once a size: {figures['template_ms']:.0f} ms)   (aim: < 50 ms)")
    finally:
        shutil.rmtree(folder)


def disk_speed(server):
    spec = importlib.util.spec_from_file_location("io_bench", ROOT / "Benchmarks/io.py")
    host = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(host)
    volume = server.post("/v1/networkvolumes", {"name": "io", "size": 2, "dataCenterId": "LOCAL-1"})["id"]
    endpoint = server.endpoint("sync", networkVolumeId=volume, template={"containerDiskInGb": 2}, vcpuCount=2)
    code = (ROOT / "Benchmarks/io.py").read_text() + "\nresult = [measure('/root'), measure('/runpod-volume')]"
    runs = {"host": [], "container": [], "network": []}
    for _ in range(3):
        runs["host"].append(host.measure(str(server.folder)))
        done = server.do(endpoint, {"python": code}, seconds=300)
        assert done["status"] == "COMPLETED", done
        runs["container"].append(done["output"][0])
        runs["network"].append(done["output"][1])
    say("I/O inside a worker against the host's disk, ratios of medians of 3 (aim: 0.9 or better). A container volume's fsync")
    say("stays in memory, since nothing on it outlives the worker; cold reads come from the host's cache of the loop image.")
    say(f"  {'':38} {'host':>9} {'container':>10} {'network':>8}")
    for name in runs["host"][0]:
        medians = {place: statistics.median(run[name] for run in results) for place, results in runs.items()}
        say(f"  {name:38} {medians['host']:9.0f} {medians['container'] / medians['host']:10.2f} {medians['network'] / medians['host']:8.2f}")
    server.remove(endpoint)


def starts(server):
    endpoint = server.endpoint("sync", vcpuCount=2)
    figures = []
    for _ in range(7):
        server.do(endpoint, {})
        worker = server.workers(endpoint)[0]
        figures.append((worker["startMs"], worker["readyMs"]))
        server.call("DELETE", f"/v1/endpoints/{endpoint}/workers/{worker['id']}", expect=204)
        wait_until(lambda: not server.workers(endpoint), 30)
    own = statistics.median(start for start, _ in figures)
    ready = statistics.median(ready for _, ready in figures)
    say(f"start of a worker: ours {own:.0f} ms from record to running process (aim: < 150 ms), "
        f"then {ready - own:.0f} ms of the handler's own imports until its first poll")
    server.remove(endpoint)


def only_accepts():
    """`bench.py accepts`: the queue's figures alone."""
    need("wrk")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="roost-bench-", dir=os.environ.get("ROOST_TEST_DIR")))
    server = Server(folder).start()
    try:
        accepts(server)
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    need("wrk", "redis-server")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="roost-bench-", dir=os.environ.get("ROOST_TEST_DIR")))
    server = Server(folder).start()
    try:
        figures = accepts(server)
        rq(figures)
        server.import_image()
        handoff(server, figures)
        container_volumes()
        disk_speed(server)
        starts(server)
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    only_accepts() if sys.argv[1:] == ["accepts"] else main()
