"""`make bench-large`: an output of 1 GiB through the spill path beside `aws s3 cp` of the same bytes to the same store, what it
costs the server in memory, and what an inline `s3Config` adds to a job."""

import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Acceptance"))
import requests  # noqa: E402
from conftest import Server  # noqa: E402
from stores import Rclone, SeaweedFS  # noqa: E402

MIB = int(os.environ.get("BENCH_MIB", "1024"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))

# Posts an output of that size as the SDK would, without holding it: only the server is measured.
POST = f"""
import http.client, os, time, urllib.parse
url = urllib.parse.urlparse(os.environ['RUNPOD_WEBHOOK_POST_OUTPUT'].replace('$RUNPOD_POD_ID', os.environ['RUNPOD_POD_ID']).replace('$ID', job['id']))
piece = (os.urandom(393216).hex() + 'abcdefgh' * 32768).encode()
count, head, tail = {MIB} << 20, b'{{"output": "', b'"}}'
def body():
    yield head
    for _ in range(count // len(piece)):
        yield piece
    yield tail
link = http.client.HTTPConnection(url.hostname, url.port)
begin = time.time()
link.request('POST', url.path, body(), {{'Authorization': os.environ['RUNPOD_AI_API_KEY'], 'Content-Length': str(len(head) + count // len(piece) * len(piece) + len(tail))}})
answer = link.getresponse()
answer.read()
print('POSTED', time.time() - begin, answer.status, flush=True)
"""


def say(text=""):
    print(text, flush=True)


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


class Peak:
    """The most memory a process had meanwhile, over what it had before."""

    def __init__(self, pid):
        self.pid, self.before, self.most, self.isOver = pid, resident(pid), 0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.isOver.wait(0.02):
            self.most = max(self.most, resident(self.pid))

    def __exit__(self, *_):
        self.isOver.set()
        self.thread.join()

    @property
    def extra(self):
        return max(0, self.most - self.before)


def spill(server, endpoint, store):
    with Peak(server.process.pid) as peak:
        done = server.do(endpoint, {"python": POST}, seconds=300)
    assert "output" in done, done
    reference = done["output"]["$ref"]
    assert reference["size"] >= MIB * 1_000_000, done
    log = server.call("GET", f"/v1/endpoints/{endpoint}/workers/{done['workerId']}/logs").text
    seconds = float(re.findall(r"POSTED ([\d.]+) 200", log)[-1])
    store.s3().delete_object(Bucket=store.bucket, Key=reference["key"])
    return reference["size"] / seconds / (1 << 20), peak.extra


def aws(store, path):
    begin = time.monotonic()
    subprocess.run([str(pathlib.Path(sys.executable).parent / "aws"), "s3", "cp", "--no-progress", "--quiet", str(path), f"s3://{store.bucket}/aws"], check=True,
                   env={**os.environ, "AWS_ACCESS_KEY_ID": store.access, "AWS_SECRET_ACCESS_KEY": store.secret, "AWS_ENDPOINT_URL": store.url,
                        "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"})
    seconds = time.monotonic() - begin
    store.s3().delete_object(Bucket=store.bucket, Key="aws")
    return path.stat().st_size / seconds / (1 << 20)


def overhead(server):
    """Accepting plain jobs and jobs with credentials, one of each in turn: what is sealed costs it there."""
    endpoint = server.parked_endpoint()
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {server.KEY}"
    config = {"accessId": "a", "accessSecret": "s" * 40, "bucketName": "b", "endpointUrl": "https://example.com"}
    times = {"plain": [], "s3Config": []}
    for number in range(1_020):
        for kind, more in (("plain", {}), ("s3Config", {"s3Config": config})):
            begin = time.perf_counter()
            assert session.post(f"{server.url}/v2/{endpoint}/run", json={"input": {"x": 1}, **more}, timeout=60).status_code == 200
            if number >= 20:
                times[kind].append((time.perf_counter() - begin) * 1_000)
    server.remove(endpoint)
    plain, sealed = (statistics.median(times[kind]) for kind in ("plain", "s3Config"))
    say(f"accepting a job, median of 1000: plain {plain:.2f} ms, with s3Config {sealed:.2f} ms: {sealed - plain:+.2f} ms   (aim: under +1 ms)")


def main():
    kinds = {"rclone": Rclone, "seaweedfs": SeaweedFS}
    kinds = [kinds[name] for name in os.environ.get("BENCH_STORES", "rclone seaweedfs").split()]
    with tempfile.TemporaryDirectory(prefix="roost-bench-", dir=os.environ.get("ROOST_TEST_DIR")) as folder:
        folder = pathlib.Path(folder)
        (folder / "roost").mkdir()
        server = Server(folder / "roost").start()
        stores = []
        try:
            server.import_image()
            file = folder / "same"
            with open(file, "wb") as out:
                piece = (os.urandom(393_216).hex() + "abcdefgh" * 32_768).encode()
                for _ in range((MIB << 20) // len(piece)):
                    out.write(piece)
            overhead(server)
            for kind in kinds:
                store = kind(folder / kind.__name__)
                stores.append(store)
                name = kind.__name__.lower()
                server.post("/v1/objectstores", {"name": name, **store.fields})
                endpoint = server.endpoint("sync", largeData=f"store:{name}")
                ours, theirs, extra = [], [], 0
                # In turns, so that neither has the warmer disk.
                for _ in range(ROUNDS):
                    rate, more = spill(server, endpoint, store)
                    ours.append(rate)
                    extra = max(extra, more)
                    theirs.append(aws(store, file))
                ours, theirs = statistics.median(ours), statistics.median(theirs)
                say(f"{MIB} MiB to {name}: job-done {ours:.0f} MiB/s, aws s3 cp {theirs:.0f} MiB/s: {ours / theirs:.2f} times   (aim: at least 1); "
                    f"{extra:.0f} MiB more memory   (aim: under 100)")
                server.remove(endpoint)
        finally:
            server.close()
            for store in stores:
                store.stop()


main()
