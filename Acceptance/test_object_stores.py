"""The user's own S3 storage: `s3Config` through to the handler with its secret sealed on the way, and stores by name."""

import hashlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading

import pytest
from conftest import ROOST, wait_until

SECRET = "sec/ret+with\\n=odd: \"signs\""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A store that is not ours: `rclone serve s3`, with a bucket called foreign."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "foreign").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(pathlib.Path(sys.executable).parent / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", "foreign-key,foreign/secret+1",
         "--config", "/dev/null", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 20, "rclone listening")
    yield {"endpointUrl": f"http://127.0.0.1:{port}", "accessId": "foreign-key", "accessSecret": "foreign/secret+1", "bucketName": "foreign", "folder": folder / "foreign"}
    process.terminate()
    process.wait()


@pytest.fixture
def uploading(server):
    """An endpoint whose handler uses the SDK's own rp_upload with the job's s3Config."""
    endpoint = server.endpoint("sync")
    yield endpoint
    server.remove(endpoint)


UPLOAD = """
import os
from runpod.serverless.utils import rp_upload
import urllib.request
open("/tmp/pic.png", "wb").write(b"PNG" * 20_000)
config = dict(job["s3Config"])
bucket = config["bucketName"]
link = rp_upload.upload_file_to_bucket("made.png", "/tmp/pic.png", bucket_creds=config, bucket_name=bucket, prefix="out")
memory = rp_upload.upload_in_memory_object("memory.bin", b"from memory", bucket_creds=config, bucket_name=bucket)
os.chdir("/tmp")
plain = rp_upload.bucket_upload(job["id"], ["pic.png"], config)
result = {"read": len(urllib.request.urlopen(link).read()), "memory": urllib.request.urlopen(memory).read().decode(), "plain": plain, "keys": sorted(job)}
"""


def test_s3config_reaches_the_handler_and_a_foreign_store(server, uploading, foreign):
    config = {name: foreign[name] for name in ("endpointUrl", "accessId", "accessSecret", "bucketName")}
    done = server.do(uploading, {"python": UPLOAD}, s3Config=config)
    assert done["status"] == "COMPLETED", done
    assert done["output"]["read"] == 60_000 and done["output"]["memory"] == "from memory" and "s3Config" in done["output"]["keys"]
    assert (foreign["folder"] / "out/made.png").stat().st_size == 60_000


def test_rp_upload_against_our_own_door(server, uploading, bucket):
    access, secret = server.s3_key(name="jobs", volumeIds=[bucket])
    config = {"endpointUrl": server.s3_url, "accessId": access, "accessSecret": secret, "bucketName": bucket}
    done = server.do(uploading, {"python": UPLOAD}, s3Config=config)
    assert done["status"] == "COMPLETED" and done["output"]["read"] == 60_000, done
    listed = {item["Key"] for item in server.s3().list_objects_v2(Bucket=bucket)["Contents"]}
    assert {"out/made.png", "memory.bin"} <= listed


def test_the_bucket_that_nobody_named(server, uploading, bucket):
    """rp_upload without a bucket makes up MM-YY: it works with the volume in the URL, and is explained without."""
    access, secret = server.s3_key(name="env", volumeIds=[])
    code = """
from runpod.serverless.utils import rp_upload
import urllib.request
open("/tmp/x.png", "wb").write(b"x" * 30_000)
import os
os.environ.update(job["input"]["env"])
import importlib; importlib.reload(rp_upload)
try:
    link = rp_upload.upload_image(job["id"], "/tmp/x.png")
    result = len(urllib.request.urlopen(link).read())
except Exception as error:
    result = str(error)
"""
    def run(url):
        env = {"BUCKET_ENDPOINT_URL": url, "BUCKET_ACCESS_KEY_ID": access, "BUCKET_SECRET_ACCESS_KEY": secret}
        return server.do(uploading, {"python": code, "env": env})["output"]

    assert run(f"{server.s3_url}/{bucket}") == 30_000
    key = server.s3().list_objects_v2(Bucket=bucket)["Contents"][0]["Key"]
    assert re.fullmatch(r"\d\d-\d\d/[^/]+/[0-9a-f]{8}\.png", key)
    assert "BUCKET_ENDPOINT_URL" in run(server.s3_url)


def test_the_secret_is_nowhere(server, make_server):
    """Searched for in every file, answer and log: queued, running, ended, retried, and after a restart."""
    quiet = make_server(image=True)
    posted = []
    listener = socket.create_server(("127.0.0.1", 0))

    def hook():
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            posted.append(link.recv(1 << 20))
            link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            link.close()

    threading.Thread(target=hook, daemon=True).start()
    config = {"accessId": "public-id", "accessSecret": SECRET, "bucketName": "b", "endpointUrl": "http://127.0.0.1:1"}
    parked = quiet.parked_endpoint()
    waiting = quiet.run(parked, {"x": 1}, s3Config=config)
    seen = [json.dumps(quiet.get(f"/v2/{parked}/status/{waiting}")), json.dumps(quiet.get(f"/v2/{parked}/requests"))]
    endpoint = quiet.endpoint("sync")
    # The handler compares with a hash: its own input must not hold what is searched for.
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    done = quiet.do(endpoint, {"python": "import hashlib; result = hashlib.sha256(job['s3Config']['accessSecret'].encode()).hexdigest() == job['input']['wanted']",
                               "wanted": digest}, s3Config=config, webhook=f"http://127.0.0.1:{listener.getsockname()[1]}/hook")
    assert done["output"] is True, done
    wait_until(lambda: posted, 20, "the webhook")
    seen += [json.dumps(done), json.dumps(quiet.get(f"/v2/{endpoint}/requests"))]
    quiet.kill()
    quiet.start()
    quiet.remove(endpoint)
    quiet.call("PATCH", f"/v1/endpoints/{parked}", json={"workersMax": 1})
    needles = [json.dumps(SECRET)[1:-1].encode(), SECRET.encode(), b"public-id"]
    for path in [*quiet.data.rglob("*"), *quiet.folder.glob("*.log")]:
        if path.is_file() and path.suffix not in (".erofs", ".xfs", ".ext4"):
            for needle in needles:
                assert needle not in path.read_bytes(), path
    for text in [*(text.encode() for text in seen), *posted]:
        assert not any(needle in text for needle in needles)
    listener.close()


def test_what_is_no_s3config_is_refused(server):
    parked = server.parked_endpoint()
    for bad, part in (("text", "JSON object"), ([1], "JSON object"), ({"store": 5}, "name of an object store"), ({"store": "none"}, "no object store 'none'")):
        answer = server.call("POST", f"/v2/{parked}/run", json={"input": {}, "s3Config": bad}, expect=400)
        assert part in answer.json()["error"]
    assert server.run(parked, {}, s3Config=None)
    # What looks like ours is sealed like anything else.
    assert server.run(parked, {}, s3Config={"$sealed": "x"})
    server.remove(parked)


def test_named_stores(server, uploading, foreign):
    made = server.post("/v1/objectstores", {"name": "mine", **{name: foreign[name] for name in ("endpointUrl", "accessId", "accessSecret", "bucketName")}})
    assert "accessSecret" not in made and "sealedSecret" not in made
    try:
        assert server.call("POST", "/v1/objectstores/mine/check").json() == {"ok": True}
        assert list(foreign["folder"].glob(".roost-check*")) == []
        done = server.do(uploading, {"python": UPLOAD}, s3Config={"store": "mine"})
        assert done["status"] == "COMPLETED" and done["output"]["read"] == 60_000, done
        # The endpoint's own, where the job brings none.
        server.call("PATCH", f"/v1/endpoints/{uploading}", json={"objectStore": "mine"})
        # A handler that returned its secret would put it into its output itself: so it returns a hash of it.
        code = "import hashlib; c = job['s3Config']; c['accessSecret'] = hashlib.sha256(c['accessSecret'].encode()).hexdigest(); result = c"
        done = server.do(uploading, {"python": code})
        digest = hashlib.sha256(foreign["accessSecret"].encode()).hexdigest()
        assert done["output"] == {**{name: foreign[name] for name in ("accessId", "bucketName", "endpointUrl")}, "accessSecret": digest}
        server.call("DELETE", "/v1/objectstores/mine", expect=409)
        server.call("PATCH", f"/v1/endpoints/{uploading}", json={"objectStore": ""})
        for path in [server.data / "roost.sqlite", server.data / "roost.sqlite-wal"]:
            assert foreign["accessSecret"].encode() not in path.read_bytes()
    finally:
        server.call("PATCH", f"/v1/endpoints/{uploading}", json={"objectStore": ""})
        server.call("DELETE", "/v1/objectstores/mine", expect=204)


@pytest.mark.parametrize("change, step, part", [
    ({"accessSecret": "wrong"}, "write", "secret is wrong"), ({"accessId": "nobody"}, "write", "does not know the access key"),
    ({"bucketName": "not-there"}, "write", "bucket"), ({"endpointUrl": "http://127.0.0.1:1"}, "write", "cannot reach"),
    ({"endpointUrl": "http://no-such-host.invalid"}, "write", "no-such-host.invalid"),
])
def test_a_check_says_what_is_wrong(server, bucket, change, step, part):
    access, secret = server.s3_key(name="checked")
    fields = {"name": "wrong", "endpointUrl": server.s3_url, "accessId": access, "accessSecret": secret, "bucketName": bucket, **change}
    server.post("/v1/objectstores", fields)
    try:
        answer = server.call("POST", "/v1/objectstores/wrong/check").json()
        assert answer["ok"] is False and answer["step"] == step and part in answer["error"], answer
    finally:
        server.call("DELETE", "/v1/objectstores/wrong", expect=204)


def test_a_store_that_hangs_or_speaks_tls_or_lies(server, bucket):
    def check(reply):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def serve():
                while True:
                    try:
                        link, _ = listener.accept()
                    except OSError:
                        return
                    if reply is not None:
                        link.recv(65536)
                        link.sendall(reply)
                        link.close()
            threading.Thread(target=serve, daemon=True).start()
            server.post("/v1/objectstores", {"name": "odd", "endpointUrl": f"http://127.0.0.1:{listener.getsockname()[1]}", "accessId": "a", "accessSecret": "b", "bucketName": "c"})
            try:
                return server.call("POST", "/v1/objectstores/odd/check").json()["error"]
            finally:
                server.call("DELETE", "/v1/objectstores/odd", expect=204)

    assert "does not answer within 10 seconds" in check(None)
    skewed = b"<Error><Code>RequestTimeTooSkewed</Code><Message>m</Message></Error>"
    assert "clock" in check(b"HTTP/1.1 403 F\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(skewed) + skewed)
    moved = b"<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>"
    assert "another region" in check(b"HTTP/1.1 301 M\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(moved) + moved)
    full = b"<Error><Code>QuotaExceeded</Code><Message>full</Message></Error>"
    assert "full" in check(b"HTTP/1.1 507 X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(full) + full)


@pytest.mark.parametrize("fields, part", [
    ({"endpointUrl": "ftp://x"}, "endpointUrl"), ({"endpointUrl": "http://"}, "endpointUrl"), ({"endpointUrl": "http://h/path"}, "endpointUrl"),
    ({"endpointUrl": "http://user@h"}, "endpointUrl"), ({"endpointUrl": "http://169.254.169.254"}, "link-local"), ({"endpointUrl": "http://[fe80::1]:9"}, "link-local"),
    ({"bucketName": "a/b"}, "bucketName"), ({"bucketName": ".."}, "bucketName"), ({"bucketName": ""}, "bucketName"), ({"name": "a b"}, "'name'"),
    ({"accessId": "a\nb"}, "accessId"), ({"accessSecret": ""}, "accessSecret"),
])
def test_store_fields_are_checked(server, fields, part):
    whole = {"name": "bad", "endpointUrl": "https://s3.example.com", "accessId": "a", "accessSecret": "s", "bucketName": "b", **fields}
    assert part in server.post("/v1/objectstores", whole, expect=400)["error"]


def test_the_command_line(server, foreign):
    def add(*arguments, stdin="", env=None, code=0):
        done = subprocess.run([str(ROOST), "store", "add", *arguments, "--endpoint", foreign["endpointUrl"], "--bucket", "foreign", "--access-key", "foreign-key"],
                              input=stdin, capture_output=True, text=True, env={**os.environ, "ROOST_URL": server.url, "ROOST_API_KEY": server.KEY, **(env or {})})
        assert done.returncode == code, done
        return done

    assert "ok: wrote" in add("by-env", env={"ROOST_STORE_SECRET": foreign["accessSecret"]}).stdout
    assert "ok: wrote" in add("by-stdin", "--prefix", "deep/er", stdin=foreign["accessSecret"] + "\n").stdout
    assert "does not work" in add("wrong", stdin="wrong\n", code=1).stderr
    assert "ok" in server.cli("store", "check", "by-stdin").stdout
    listed = json.loads(server.cli("store", "list", "--json").stdout)
    assert {store["name"] for store in listed} >= {"by-env", "by-stdin", "wrong"}
    for name in ("by-env", "by-stdin", "wrong"):
        server.cli("store", "delete", name)
