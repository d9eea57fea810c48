"""Models: fetched once a machine, checked, shared read-only where handlers look for them."""

import hashlib
import http.server
import json
import os
import shutil
import threading

import pytest
from conftest import wait_until
from stores import Rclone

FILES = {"config.json": b'{"model_type": "tiny"}', "model.safetensors": os.urandom(5 << 20), "tokenizer/vocab.txt": b"a\nb\n"}
COMMIT = hashlib.sha1(b"commit").hexdigest()


class Hub:
    """What of Hugging Face's API a download needs, with files as they are told apart there: by git's id or, large, by SHA-256."""

    def __init__(self):
        self.seen, self.gate, self.broken, self.tokens = [], threading.Event(), None, set()
        self.gate.set()
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.split("?")[0]
                hub.tokens.add(self.headers.get("Authorization"))
                # A branch and a tag of the same commit.
                if path in ("/api/models/org/tiny/revision/main", "/api/models/org/tiny/revision/v1"):
                    return self.answer(json.dumps({"sha": COMMIT, "siblings": [hub.describe(name) for name in FILES]}).encode())
                if path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
                    # Large files lie elsewhere: the hub redirects.
                    self.send_response(302)
                    self.send_header("Location", "/cdn/" + path.split("/", 5)[5])
                    self.end_headers()
                    return None
                if path.startswith("/cdn/"):
                    hub.seen.append(path[5:])
                    hub.gate.wait(60)
                    body = FILES[path[5:]]
                    return self.answer(body[:-1] + b"!" if hub.broken == path[5:] else body)
                self.send_error(404)
                return None

            def answer(self, body):
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def describe(name):
        body = FILES[name]
        entry = {"rfilename": name, "size": len(body), "blobId": hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()}
        if len(body) > 1 << 20:
            entry["lfs"] = {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
        return entry


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.gate.set()
    hub.server.shutdown()


LOOK = """
import hashlib, os
base = '/runpod-volume/huggingface-cache/hub/' + job['input']['folder']
commit = open(base + '/refs/main').read()
root = base + '/snapshots/' + commit
files = {os.path.relpath(os.path.join(d, f), root): hashlib.md5(open(os.path.join(d, f), 'rb').read()).hexdigest() for d, _, names in os.walk(root) for f in names}
try:
    open(root + '/new', 'w')
    wrote = True
except OSError:
    wrote = False
result = {'commit': commit, 'files': files, 'wrote': wrote, 'env': os.environ.get('HF_HUB_CACHE')}
"""
DIGESTS = {name: hashlib.md5(body).hexdigest() for name, body in FILES.items()}


def test_eight_cold_workers_cause_one_download(make_server, hub):
    own = make_server({"modelHubUrl": hub.url}, image=True)
    hub.gate.clear()
    endpoints = [own.endpoint("sync", template={"env": {"HF_TOKEN": "hf_secret"}}, modelReferences=["https://huggingface.co/org/tiny:main"]) for _ in range(8)]
    jobs = [own.run(endpoint, {"python": LOOK, "folder": "models--org--tiny"}) for endpoint in endpoints]
    reason = wait_until(lambda: (text := own.get(f"/v2/{endpoints[0]}/status/{jobs[0]}").get("reason", "")) and "is being fetched" in text and text, 30, "the reason")
    assert "hf:org/tiny@main" in reason
    # No worker starts before it is there.
    assert not own.workers(endpoints[0])
    hub.gate.set()
    for endpoint, job in zip(endpoints, jobs):
        done = own.finish(endpoint, job, seconds=120)
        assert done["output"] == {"commit": COMMIT, "files": DIGESTS, "wrote": False, "env": "/runpod-volume/huggingface-cache/hub"}, done
    assert sorted(hub.seen) == sorted(FILES), hub.seen
    assert "Bearer hf_secret" in hub.tokens
    listed = own.get("/v1/models")
    assert len(listed) == 1 and listed[0]["bytes"] == sum(map(len, FILES.values())) and listed[0]["snapshot"] == COMMIT
    assert "used by an endpoint" in own.call("DELETE", f"/v1/models/{listed[0]['id']}", expect=409).json()["error"]


def test_from_a_store_and_from_a_volume(make_server, tmp_path):
    own = make_server(image=True)
    store = Rclone(tmp_path / "models")
    try:
        for name, body in FILES.items():
            store.put("llama/" + name, body)
        own.post("/v1/objectstores", {"name": "weights", **store.fields})
        own.s3().create_bucket(Bucket="vol")
        volume = own.volume_id("vol")
        for name, body in FILES.items():
            own.s3().put_object(Bucket="vol", Key="m/" + name, Body=body)
        endpoint = own.endpoint("sync", networkVolumeId=volume, modelReferences=["store:weights/llama", f"volume:{volume}/m"])
        for folder in ("models--weights--llama", f"models--{volume}--m"):
            done = own.do(endpoint, {"python": LOOK, "folder": folder})
            assert done["output"]["files"] == DIGESTS and done["output"]["wrote"] is False, done
        # It is a copy on this machine: the store may be gone.
        store.stop()
        assert own.do(endpoint, {"python": LOOK, "folder": "models--weights--llama"})["output"]["files"] == DIGESTS
        own.kill()
        own.start()
        assert len(own.get("/v1/models")) == 2
        stored = next(model["id"] for model in own.get("/v1/models") if model["reference"] == "store:weights/llama")
        assert own.cli("model", "verify", stored).stdout == "ok\n"
        target = next((own.data / "models/hub/models--weights--llama/snapshots").rglob("config.json"))
        target.write_bytes(b'{"model_type": "evil"}')
        assert "config.json is not what it was" in own.cli("model", "verify", stored, code=1).stderr
    finally:
        store.stop()


def test_what_is_not_what_it_says_is_never_used(make_server, hub):
    own = make_server({"modelHubUrl": hub.url}, image=True)
    for broken, part in (("model.safetensors", "SHA-256"), ("config.json", "git blob")):
        hub.broken = broken
        refused = own.call("POST", "/v1/models", json={"reference": "hf:org/tiny"}, expect=400)
        assert broken in refused.json()["error"] and part in refused.json()["error"], refused.text
    assert not own.get("/v1/models") and not any((own.data / "models").rglob("config.json"))
    endpoint = own.endpoint("sync", modelReferences=["hf:org/tiny"])
    job = own.run(endpoint, {"x": 1})
    wait_until(lambda: "could not be fetched" in own.get(f"/v2/{endpoint}/status/{job}").get("reason", ""), 30, "the reason")
    hub.broken = None
    assert json.loads(own.cli("model", "add", "hf:org/tiny", "--json").stdout)["files"] == 3
    assert own.finish(endpoint, job)["status"] == "COMPLETED"
    absent = own.call("POST", "/v1/models", json={"reference": "hf:org/absent"}, expect=400)
    assert "404" in absent.json()["error"]


def test_killed_while_it_fetches(make_server, hub):
    own = make_server({"modelHubUrl": hub.url}, image=True)
    endpoint = own.endpoint("sync", modelReferences=["hf:org/tiny"])
    hub.gate.clear()
    job = own.run(endpoint, {"python": LOOK, "folder": "models--org--tiny"})
    wait_until(lambda: hub.seen, 30, "the fetch begun")
    own.kill()
    hub.gate.set()
    own.start()
    assert own.finish(endpoint, job)["output"]["files"] == DIGESTS
    assert not list((own.data / "models/staging").iterdir())


def test_two_names_of_one_snapshot(make_server, hub):
    """Removing the one leaves the other whole; a record without its files is dropped at the next start."""
    own = make_server({"modelHubUrl": hub.url})
    main, tag = (own.post("/v1/models", {"reference": f"hf:org/tiny@{revision}"}) for revision in ("main", "v1"))
    assert main["snapshot"] == tag["snapshot"] == COMMIT
    own.call("DELETE", f"/v1/models/{tag['id']}", expect=204)
    assert own.post(f"/v1/models/{main['id']}/verify") == {"ok": True, "broken": []}
    own.kill()
    shutil.rmtree(own.data / f"models/hub/models--org--tiny/snapshots/{COMMIT}")
    own.start()
    assert own.get("/v1/models") == []


def test_references_that_are_none(server):
    template = server.post("/v1/templates", {"name": "models", "imageName": "none:1"})["id"]
    for bad in ("x", "hf:", "hf:org", "hf:org/name/more", "hf:../name", "https://elsewhere.example/org/name", "store:none/x", "volume:none/x", "store:none",
                "store:weights/../x"):
        answer = server.call("POST", "/v1/endpoints", json={"templateId": template, "modelReferences": [bad]}, expect=400)
        assert "model" in answer.json()["error"].lower(), answer.text
    server.call("POST", "/v1/models", json={"reference": "hf:"}, expect=400)
    server.call("GET", "/v1/models/none", expect=404)


def test_one_folder_is_one_model(server, bucket):
    """Handlers find a model by its folder's name; two that would share it are told so. Fetched again, one stays whole."""
    volume = server.volume_id(bucket)
    for name in ("m/x/weights", "m-x/weights"):
        server.s3().put_object(Bucket=bucket, Key=name, Body=name.encode())
    first = server.post("/v1/models", {"reference": f"volume:{volume}/m/x"})
    refused = server.call("POST", "/v1/models", json={"reference": f"volume:{volume}/m-x"}, expect=409).json()["error"]
    assert "same folder" in refused and f"volume:{volume}/m/x" in refused
    again = server.post("/v1/models", {"reference": f"volume:{volume}/m/x"})
    assert again["id"] == first["id"] and again["snapshot"] == first["snapshot"]
    assert server.cli("model", "verify", first["id"]).stdout == "ok\n"
    assert not list((server.data / "models/staging").iterdir())
    server.call("DELETE", f"/v1/models/{first['id']}", expect=204)
    other = server.post("/v1/models", {"reference": f"volume:{volume}/m-x"})
    server.call("DELETE", f"/v1/models/{other['id']}", expect=204)
