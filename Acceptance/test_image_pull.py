"""Images from a registry: pulled once, pinned, checked, within a budget."""

import concurrent.futures
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import threading
import urllib.request

import pytest
from conftest import ROOST, ROOT, wait_until, worker_image
from stores import free_port
from test_images import layer, layout


class Registry:
    """docker-registry behind a front that counts, holds up and asks for a password."""

    def __init__(self, folder, password=None):
        subprocess.run([ROOT / "scripts/setup.sh", "docker-registry"], check=True, capture_output=True)
        self.inner, self.port, self.folder = free_port(), free_port(), folder
        config = folder / "registry.yml"
        config.write_text(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {folder}/data\nhttp:\n  addr: 127.0.0.1:{self.inner}\n")
        self.process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.seen, self.gate, self.broken = [], threading.Event(), False
        self.gate.set()
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if password and self.headers.get("Authorization") != "Basic " + password:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="test"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                request = urllib.request.Request(f"http://127.0.0.1:{front.inner}{self.path}", method=self.command,
                                                 headers={"Accept": ", ".join(self.headers.get_all("Accept") or ["*/*"])})
                try:
                    answer = urllib.request.urlopen(request)
                except urllib.error.HTTPError as error:
                    answer = error
                body = answer.read()
                # Layers; an image's configuration is JSON, and asked for before it is known what is to be pulled.
                if "/blobs/" in self.path and self.command == "GET" and not body.startswith(b"{"):
                    front.seen.append(self.path)
                    front.gate.wait(60)
                    if front.broken:
                        body = bytes([body[0] ^ 1]) + body[1:]
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", answer.headers.get("Content-Length") if self.command == "HEAD" else str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        wait_until(lambda: self.alive(), 20, "the registry")

    def alive(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.inner}/v2/").status == 200
        except OSError:
            return False

    def name(self, tag):
        return f"127.0.0.1:{self.port}/team/{tag}"

    def push(self, folder, tag):
        subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{folder}", f"docker://127.0.0.1:{self.inner}/team/{tag}"], check=True)

    def close(self):
        self.server.shutdown()
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.close()


def tiny(folder, text):
    """An image of a few bytes, for what is never started."""
    base = folder / "base.tar"
    base.write_bytes(layer({"bin": None, "bin/x": text}))
    return layout(folder / "oci", base)


@pytest.fixture(scope="module")
def worker_layout(tmp_path_factory, server):
    folder = tmp_path_factory.mktemp("pullable")
    source = (pathlib.Path(__file__).parent / "handlers/sync.py").read_text()
    return layout(folder / "oci", worker_image(), layer({"srv": None, "srv/handler.py": source, "tmp": None}),
                  env=["RUNNER=python3 -u /srv/handler.py", "PATH=/usr/bin:/bin"])


def test_a_job_has_its_image_pulled_once(make_server, registry, worker_layout):
    """Three endpoints want one image that nobody has: one pull, whose progress is their jobs' reason."""
    own = make_server()
    registry.push(worker_layout, "worker:1")
    name = registry.name("worker:1")
    registry.seen.clear()
    registry.gate.clear()
    try:
        template = own.post("/v1/templates", {"name": "t", "imageName": name, "containerDiskInGb": 1})["id"]
        endpoints = [own.post("/v1/endpoints", {"templateId": template, "vcpuCount": 1, "memoryInGb": 1})["id"] for _ in range(3)]
        jobs = [own.run(endpoint, {"x": 1}) for endpoint in endpoints]
        reason = wait_until(lambda: (text := own.get(f"/v2/{endpoints[0]}/status/{jobs[0]}").get("reason", "")) and "MiB" in text and text, 30, "progress")
        assert "is being pulled" in reason and name in reason
        assert own.get("/v1/imagepulls")[0]["status"] == "PULLING"
        assert not own.get("/v1/images")
    finally:
        registry.gate.set()
    for endpoint, job in zip(endpoints, jobs):
        assert own.finish(endpoint, job)["status"] == "COMPLETED"
    assert len(registry.seen) == len(set(registry.seen)) == 2, registry.seen
    assert own.get("/v1/imagepulls")[0]["status"] == "COMPLETED"
    image = own.get("/v1/images")[0]
    assert image["manifestDigest"].startswith("sha256:") and image["usedAt"]


def test_pinned_until_it_is_pulled_anew(make_server, registry, tmp_path):
    own = make_server()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    registry.push(tiny(tmp_path / "one", "one"), "moving:1")
    first = json.loads(own.cli("image", "pull", registry.name("moving:1"), "--json").stdout)
    shown = json.loads(own.cli("image", "inspect", registry.name("moving:1"), "--check").stdout)
    assert shown["isStale"] is False and shown["registryDigest"] == first["manifestDigest"]
    registry.push(tiny(tmp_path / "two", "two"), "moving:1")
    shown = json.loads(own.cli("image", "inspect", registry.name("moving:1"), "--check").stdout)
    assert shown["isStale"] is True and shown["manifestDigest"] == first["manifestDigest"]
    second = json.loads(own.cli("image", "pull", registry.name("moving:1"), "--json").stdout)
    assert second["id"] != first["id"] and second["layers"] != first["layers"]
    # The same again fetches nothing.
    registry.seen.clear()
    assert json.loads(own.cli("image", "pull", registry.name("moving:1"), "--json").stdout)["id"] == second["id"] and not registry.seen
    # Nobody uses it: gone with its layers.
    assert registry.name("moving:1") in own.cli("image", "prune").stdout
    assert not own.get("/v1/images") and not list((own.data / "images/layers").iterdir())


def test_many_at_once_are_one(make_server, registry, tmp_path):
    own = make_server()
    registry.push(tiny(tmp_path, "many"), "many:1")
    registry.seen.clear()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda _: own.post("/v1/images/pull", {"name": registry.name("many:1")}), range(8)))
    assert len({image["id"] for image in images}) == 1 and len(registry.seen) == 1, registry.seen


def test_credentials(make_server, tmp_path):
    import base64
    closed = Registry(tmp_path, password=base64.b64encode(b"user:pass/word+1").decode())
    own = make_server()
    try:
        (tmp_path / "i").mkdir()
        closed.push(tiny(tmp_path / "i", "secret"), "private:1")
        name = closed.name("private:1")
        refused = own.call("POST", "/v1/images/pull", json={"name": name}, expect=503)
        assert "unauthorized" in refused.json()["error"] or "authentication" in refused.json()["error"], refused.text
        auth = own.post("/v1/containerregistryauth", {"name": "mine", "username": "user", "password": "pass/word+1"})
        assert set(auth) == {"id", "name"}
        assert own.post("/v1/images/pull", {"name": name, "containerRegistryAuthId": auth["id"]})["name"] == name
        own.post("/v1/templates", {"name": "t", "imageName": name, "containerRegistryAuthId": auth["id"]})
        assert "used by template" in own.call("DELETE", f"/v1/containerregistryauth/{auth['id']}", expect=409).json()["error"]
        for path in own.data.rglob("*"):
            if path.is_file() and path.suffix != ".erofs":
                assert b"pass/word+1" not in path.read_bytes() and base64.b64encode(b"user:pass/word+1") not in path.read_bytes(), path
    finally:
        closed.close()


def test_broken_on_the_way(make_server, registry, tmp_path):
    own = make_server()
    registry.push(tiny(tmp_path, "broken"), "broken:1")
    registry.broken = True
    try:
        refused = own.call("POST", "/v1/images/pull", json={"name": registry.name("broken:1")}, expect=503)
        assert "igest" in refused.json()["error"], refused.text
    finally:
        registry.broken = False
    assert not own.get("/v1/images") and not list((own.data / "images/layers").iterdir()) and not list((own.data / "images/staging").iterdir())
    assert own.post("/v1/images/pull", {"name": registry.name("broken:1")})["id"]
    absent = own.call("POST", "/v1/images/pull", json={"name": registry.name("absent:1")}, expect=503)
    assert "manifest unknown" in absent.json()["error"], absent.text


def test_killed_while_it_pulls(make_server, registry, tmp_path):
    own = make_server()
    registry.push(tiny(tmp_path, "killed"), "killed:1")
    registry.gate.clear()
    registry.seen.clear()
    try:
        pull = subprocess.Popen([str(ROOST), "image", "pull", registry.name("killed:1")], env={**os.environ, "ROOST_URL": own.url, "ROOST_API_KEY": own.KEY},
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: registry.seen, 30, "the pull begun")
        own.kill()
        assert pull.wait(30) != 0
    finally:
        registry.gate.set()
    own.start()
    assert not own.get("/v1/images") and not list((own.data / "images/staging").iterdir())
    assert own.post("/v1/images/pull", {"name": registry.name("killed:1")})["id"]


def test_a_layer_that_is_not_what_it_says(server, tmp_path):
    """An image that calls its own bytes by the digest of another image's layer must not get into that one's place."""
    victim = hashlib.sha256(layer({"bin": None, "bin/x": "the real one"})).hexdigest()
    folder = tiny(tmp_path, "poison")
    index = json.loads((folder / "index.json").read_text())
    blobs = folder / "blobs/sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    config["rootfs"]["diff_ids"] = ["sha256:" + victim]

    def put(value):
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": "sha256:" + digest, "size": len(data)}

    manifest["config"].update(put(config))
    index["manifests"][0].update(put(manifest))
    (folder / "index.json").write_text(json.dumps(index))
    refused = server.cli("image", "import", "poison:1", str(folder), code=1).stderr
    assert "not " + victim in refused
    assert not (server.data / f"images/layers/{victim}.erofs").exists()


def test_the_budget_evicts_what_nobody_uses(make_server, registry, tmp_path):
    own = make_server({"imagesGb": 1})
    big = "x" * (600 << 20)
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        base = tmp_path / name / "base.tar"
        base.write_bytes(layer({"bin": None, f"bin/{name}": big}))
        own.cli("image", "import", f"budget/{name}:1", str(base))
        base.unlink()
        if name == "first":
            own.post("/v1/templates", {"name": "uses-it", "imageName": "budget/first:1"})
    # A template names the first; of the others the older one went.
    assert [image["name"] for image in own.get("/v1/images")] == ["budget/first:1", "budget/third:1"]
