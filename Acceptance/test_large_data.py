"""Outputs over the limit and inputs too large for a request: through a store or a volume, never through the request."""

import hashlib
import json
import re
import socket
import threading

import pytest
import requests
from conftest import wait_until
from stores import Rclone

LARGE = 24 << 20
DIGEST = "import hashlib, os; p = job['input']['file']; result = {'path': p, 'size': os.path.getsize(p), 'sha256': hashlib.sha256(open(p, 'rb').read()).hexdigest()}"


@pytest.fixture(scope="module")
def foreign_name(server, foreign):
    name = type(foreign).__name__.lower()
    server.post("/v1/objectstores", {"name": name, "prefix": "team", **foreign.fields})
    yield name
    server.call("DELETE", f"/v1/objectstores/{name}", expect=(204, 404))


def fetch(reference):
    answer = requests.get(reference["url"], timeout=60)
    assert answer.status_code == 200, answer.text
    assert len(answer.content) == reference["size"] and hashlib.sha256(answer.content).hexdigest() == reference["sha256"]
    return answer.json()


def test_a_large_output_goes_to_the_store(server, deploy, foreign, foreign_name):
    endpoint = deploy(largeData=f"store:{foreign_name}")
    small = server.do(endpoint, {"large": 1_000})
    assert small["output"] == {"data": "x" * 1_000}
    done = server.do(endpoint, {"large": LARGE})
    assert done["status"] == "COMPLETED", done
    reference = done["output"]["$ref"]
    assert fetch(reference) == {"data": "x" * LARGE}
    assert reference["store"] == foreign_name and reference["key"].startswith(f"team/roost/results/{endpoint}/{done['id']}/")
    assert foreign.keys("team/roost/results/" + endpoint) == [reference["key"]] and reference["expires"].startswith("20")
    # Odd text and numbers that are none come out as they would have inline.
    odd = "result = {'t': '\\u00e9\"\\\\\\n' * 4_000_000, 'n': float('nan'), 'l': [1, {'a': []}, True, None, -1.5e3, float('-inf')], 'e': {}}"
    value = fetch(server.do(endpoint, {"python": odd})["output"]["$ref"])
    assert value == {"t": "é\"\\\n" * 4_000_000, "n": None, "l": [1, {"a": []}, True, None, -1500.0, None], "e": {}}


def test_a_large_output_goes_to_a_volume_and_becomes_the_next_input(server, deploy, bucket):
    volume = server.volume_id(bucket)
    first = deploy(largeData=f"volume:{volume}", workersMax=1)
    done = server.do(first, {"large": LARGE})
    reference = done["output"]["$ref"]
    assert fetch(reference) == {"data": "x" * LARGE} and reference["volume"] == volume
    # Attached, it is read where it lies; otherwise it is copied to the worker's own disk.
    attached = deploy(networkVolumeId=volume)
    there = server.do(attached, {"python": DIGEST, "file": done["output"]})
    assert there["output"] == {"path": f"/runpod-volume/{reference['key']}", "size": reference["size"], "sha256": reference["sha256"]}, there
    copied = server.do(first, {"python": DIGEST, "file": done["output"]})
    assert copied["output"]["sha256"] == reference["sha256"] and re.fullmatch(rf"/tmp/roost/{copied['id']}-\w+/0-.*", copied["output"]["path"])
    # What was put there for a job goes with it.
    look = {"python": "import os; result = os.listdir('/tmp/roost')"}
    wait_until(lambda: server.do(first, look)["output"] == [], 30, "its copy gone")


def test_without_a_place_it_says_how_to_set_one(server, deploy):
    endpoint = deploy()
    done = server.do(endpoint, {"large": LARGE})
    assert done["status"] == "FAILED" and "largeData" in done["error"] and "output too large" in done["error"]
    refused = server.call("POST", f"/v2/{endpoint}/upload", json={}, expect=409)
    assert "largeData" in refused.json()["error"]


def test_an_upload_is_an_input(server, deploy, foreign, foreign_name):
    endpoint = deploy(largeData=f"store:{foreign_name}")
    body = bytes(range(256)) * 100_000
    digest = hashlib.sha256(body).hexdigest()
    place = server.post(f"/v2/{endpoint}/upload", {"filename": "my model.bin", "size": len(body), "sha256": digest})
    assert requests.put(place["url"], data=body, timeout=60).status_code == 200
    assert place["ref"]["$ref"]["key"] in foreign.keys("team/roost/uploads")
    done = server.do(endpoint, {"python": DIGEST, "file": place["ref"], "other": {"$ref": "#/definitions/left-alone"}})
    assert done["output"]["sha256"] == digest and done["output"]["path"].endswith("/0-my_model.bin"), done
    # As URLs, when the endpoint wants that.
    urls = deploy(largeData=f"store:{foreign_name}", inputRefs="url")
    code = "import urllib.request, hashlib; result = hashlib.sha256(urllib.request.urlopen(job['input']['file']).read()).hexdigest()"
    assert server.do(urls, {"python": code, "file": place["ref"]})["output"] == digest
    # Several, deep in the input, and the same twice.
    many = "import os; result = [os.path.getsize(x['f']) for x in job['input']['list']] + [sorted(job['input'])]"
    done = server.do(endpoint, {"python": many, "list": [{"f": place["ref"]}, {"f": place["ref"]}]})
    assert done["output"] == [len(body), len(body), ["list", "python"]]
    # Sealed credentials travel beside references as without them.
    config = server.do(endpoint, {"python": "result = job['s3Config']['accessId']", "file": place["ref"]}, s3Config={"store": foreign_name})
    assert config["output"] == foreign.access


def test_inputs_that_are_not_what_was_said(server, deploy, foreign, foreign_name):
    endpoint = deploy(largeData=f"store:{foreign_name}")
    foreign.put("team/there", b"0123456789")
    for wrong, part in (({"size": 11}, "10 bytes, not 11"), ({"size": 9}, "more than the 9 bytes"), ({"sha256": "0" * 64}, "SHA-256 is"),
                        ({"key": "team/absent"}, "no such object")):
        done = server.do(endpoint, {"f": {"$ref": {"store": foreign_name, "key": "team/there", **wrong}}})
        assert done["status"] == "FAILED" and part in done["error"], done
    # The worker is none the worse for it.
    assert server.do(endpoint, {"x": 1})["status"] == "COMPLETED"
    for bad, part in (({"$ref": {"size": 5}}, "must name"), ({"$ref": {"store": "none", "key": "k"}}, "no object store"),
                      ({"$ref": {"volume": "other", "key": "k"}}, "not a network volume of this endpoint"),
                      ({"$ref": {"url": "ftp://x/y"}}, "http or https"), ({"$ref": {"url": "http://169.254.169.254/latest"}}, "link-local"),
                      ({"$ref": {"url": "http://[fe80::1]/"}}, "link-local"), ({"$ref": {"url": server.url + "/v1/apikeys"}}, "this server's API"),
                      ({"$ref": {"url": "http://x/", "sha256": "zz"}}, "64 hexadecimal"), ({"$ref": {"url": "http://x/", "size": -1}}, "number of bytes")):
        answer = server.call("POST", f"/v2/{endpoint}/run", json={"input": {"f": bad}}, expect=(400, 404))
        assert part in answer.json()["error"], answer.text


def test_an_input_larger_than_the_disk(server, deploy, bucket):
    endpoint = deploy(largeData=f"volume:{server.volume_id(bucket)}")
    server.on_volume(bucket, "f = open('big', 'wb'); f.truncate(1_100 << 20)")
    # The volume holds it, being sparse; a container volume of 1 GB does not.
    done = server.do(endpoint, {"f": {"$ref": {"volume": server.volume_id(bucket), "key": "big"}}}, seconds=120)
    assert done["status"] == "FAILED" and "containerDiskInGb" in done["error"], done
    # What had come of it is taken away while the next job may already run.
    room = {"python": "import os; result = os.statvfs('/').f_bavail * 4096 > 800 << 20"}
    wait_until(lambda: server.do(endpoint, room)["output"] is True, 30, "its room given back")


class Answers:
    """A server that answers every request with what it was given."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.seen = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                link, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(link,), daemon=True).start()

    def answer(self, link):
        with link:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = link.recv(65_536)
                if not piece:
                    return
                head += piece
            self.seen.append(head.split(b"\r\n")[0].decode())
            if length := re.search(rb"(?i)content-length: *(\d+)", head):
                left = int(length.group(1)) - len(head.split(b"\r\n\r\n", 1)[1])
                while left > 0:
                    piece = link.recv(min(left, 1 << 20))
                    if not piece:
                        return
                    left -= len(piece)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            link.sendall(answer(self.seen[-1]) if callable(answer) else answer)

    def close(self):
        self.socket.close()


def http(status, body=b"", *headers):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def error(status, code):
    return http(status, f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode())


@pytest.fixture
def odd_store(server, deploy):
    """An endpoint whose large outputs go to a store that answers as the test says."""
    made = []

    def odd(*answers):
        store = Answers(*answers)
        name = f"odd-{store.socket.getsockname()[1]}"
        server.post("/v1/objectstores", {"name": name, "endpointUrl": store.url, "bucketName": "b", "accessId": "a", "accessSecret": "s"})
        made.append((name, store))
        return store, deploy(largeData=f"store:{name}")

    yield odd
    for _, store in made:
        store.close()


@pytest.mark.parametrize("answer,part", [
    (error("403 Forbidden", "SignatureDoesNotMatch"), "the secret is wrong"),
    (error("403 Forbidden", "InvalidAccessKeyId"), "does not know the access key"),
    (error("404 Not Found", "NoSuchBucket"), "no bucket 'b'"),
    (error("507 Insufficient Storage", "XMinioStorageFull"), "XMinioStorageFull"),
    (http("307 Temporary Redirect", b"", "Location: http://169.254.169.254/b"), "link-local"),
    (error("200 OK", "AccessDenied"), "may not do this"),
    (b"not HTTP at all\r\n\r\n", "cannot reach"),
], ids=["secret", "key", "bucket", "full", "redirect", "ok-with-error", "nonsense"])
def test_a_store_that_refuses_fails_the_job_and_says_why(server, odd_store, answer, part):
    store, endpoint = odd_store(answer)
    done = server.do(endpoint, {"large": LARGE}, seconds=90)
    assert done["status"] == "FAILED" and part in done["error"] and "could not be put into store:" in done["error"], done
    assert server.do(endpoint, {"x": 1})["status"] == "COMPLETED"


def test_a_store_that_wants_patience_gets_it(server, odd_store, foreign):
    """SlowDown again and again, then a redirect to a store that works."""
    slow = error("503 Slow Down", "SlowDown")
    host = f"127.0.0.1:{foreign.port}"
    moved = lambda line: http("307 Temporary Redirect", b"", f"Location: http://{host}{line.split()[1]}")
    store, endpoint = odd_store(slow, slow, slow, slow, slow, moved)
    done = server.do(endpoint, {"large": LARGE}, seconds=120)
    # The redirected requests reach a store that does not know these credentials: they came, signed anew.
    assert done["status"] == "FAILED" and ("access key" in done["error"] or "secret is wrong" in done["error"] or "b'" in done["error"]), done
    assert len(store.seen) == 6


def test_a_store_that_dies_in_the_middle(server, deploy, tmp_path):
    store = Rclone(tmp_path / "dying")
    try:
        server.post("/v1/objectstores", {"name": "dying", **store.fields})
        endpoint = deploy(largeData="store:dying")
        assert server.do(endpoint, {"large": LARGE})["status"] == "COMPLETED"
        store.stop()
        done = server.do(endpoint, {"large": LARGE}, seconds=90)
        assert done["status"] == "FAILED" and "cannot" in done["error"], done
        assert server.do(endpoint, {"x": 1})["status"] == "COMPLETED"
    finally:
        store.stop()


def test_a_worker_that_dies_while_it_posts(server, deploy, bucket):
    """What came of the output is thrown away, and the job is tried again."""
    endpoint = deploy(largeData=f"volume:{server.volume_id(bucket)}")
    code = """
import os, socket, urllib.parse
url = urllib.parse.urlparse(os.environ['RUNPOD_WEBHOOK_POST_OUTPUT'].replace('$RUNPOD_POD_ID', os.environ['RUNPOD_POD_ID']).replace('$ID', job['id']))
link = socket.create_connection((url.hostname, url.port))
link.sendall(f"POST {url.path} HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: {os.environ['RUNPOD_AI_API_KEY']}\\r\\nContent-Length: 90000000\\r\\n\\r\\n".encode())
link.sendall(b'{"output": "' + b'y' * 60_000_000)
os._exit(3)
"""
    done = server.do(endpoint, {"python": code}, seconds=90)
    assert done["status"] == "FAILED" and "exited with code 3" in done["error"], done
    assert not server.s3().list_objects_v2(Bucket=bucket).get("Contents")
    wait_until(lambda: not server.s3().list_multipart_uploads(Bucket=bucket).get("Uploads"), 20, "the upload given up")


def test_a_result_that_is_no_json(server, deploy, bucket):
    endpoint = deploy(largeData=f"volume:{server.volume_id(bucket)}")
    code = """
import os, urllib.request
url = os.environ['RUNPOD_WEBHOOK_POST_OUTPUT'].replace('$RUNPOD_POD_ID', os.environ['RUNPOD_POD_ID']).replace('$ID', job['id'])
body = b'{"output": ["' + b'y' * 30_000_000 + b'"}'
urllib.request.urlopen(urllib.request.Request(url, body, {'Authorization': os.environ['RUNPOD_AI_API_KEY']})).read()
"""
    done = server.do(endpoint, {"python": code}, seconds=60)
    assert done["status"] == "FAILED" and "not JSON" in done["error"], done
    assert not server.s3().list_objects_v2(Bucket=bucket).get("Contents")


def test_keys_are_rotated(make_server):
    quiet = make_server()
    quiet.post("/v1/objectstores", {"name": "s", "endpointUrl": "http://127.0.0.1:1", "bucketName": "b", "accessId": "a", "accessSecret": "very/secret"})
    key = quiet.s3_key(name="old")
    quiet.s3(key).list_buckets()
    parked = quiet.parked_endpoint()
    waiting = quiet.run(parked, {}, s3Config={"accessId": "x", "accessSecret": "y", "bucketName": "b", "endpointUrl": "http://x"})
    before = (quiet.data / "secret.keys").read_text()
    assert json.loads(quiet.cli("secrets", "rotate", "--json").stdout) == {"keys": 2}
    after = (quiet.data / "secret.keys").read_text()
    assert after.endswith(before) and after != before and (quiet.data / "secret.keys").stat().st_mode & 0o777 == 0o600
    quiet.kill()
    # All that is kept for long is sealed with the new key alone; the old one is for jobs that wait.
    (quiet.data / "secret.keys").write_text(after.splitlines(keepends=True)[0])
    quiet.start()
    quiet.s3(key).list_buckets()
    assert quiet.get(f"/v2/{parked}/status/{waiting}")["status"] == "IN_QUEUE"
    assert "cannot" in quiet.post("/v1/objectstores/s/check")["error"]


def test_a_job_cancelled_while_its_input_comes(server, deploy):
    """The worker never heard of it, is not replaced, and takes the next job at once."""
    endpoint = deploy()
    worker = server.do(endpoint, {"x": 1})["workerId"]
    held = threading.Event()
    asked = threading.Event()

    def answer(_):
        asked.set()
        held.wait(30)
        return http("200 OK", b"too late")

    slow = Answers(answer)
    try:
        job = server.run(endpoint, {"f": {"$ref": {"url": slow.url + "/file"}}})
        assert asked.wait(30)
        assert server.get(f"/v2/{endpoint}/status/{job}")["status"] == "IN_PROGRESS"
        # Another job waits behind it, as the worker has one.
        behind = server.run(endpoint, {"x": 2})
        assert server.post(f"/v2/{endpoint}/cancel/{job}")["status"] == "CANCELLED"
        done = server.finish(endpoint, behind, seconds=20)
        assert done["status"] == "COMPLETED" and done["workerId"] == worker, done
        held.set()
        left = server.do(endpoint, {"python": "import os; result = os.listdir('/tmp/roost') if os.path.isdir('/tmp/roost') else []"})
        assert left["workerId"] == worker
        wait_until(lambda: server.do(endpoint, {"python": "import os; result = os.listdir('/tmp/roost')"})["output"] == [], 30, "its files gone")
    finally:
        held.set()
        slow.close()
