"""Fixtures: a real server, a real worker image, real clients. Everything started here is stopped here."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest
import requests
from stores import Rclone, SeaweedFS

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOST = pathlib.Path(os.environ.get("ROOST_BINARY", ROOT / ".build/release/roost"))
HANDLERS = pathlib.Path(__file__).parent / "handlers"
IMAGE = "test/python:1"


def wait_until(check, seconds=30, what="the condition"):
    """Polls `check` until it returns something true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not come true within {seconds} s"
        time.sleep(0.05)


class Server:
    """One `roost serve` on its own data directory."""

    KEY = "acceptance-admin-key-0123456789"

    def __init__(self, folder, config=None, port=0, env=None):
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.port = port
        self.s3_port = 0
        self.scheme = "http"
        self.env = {"ROOST_ADMIN_KEY": self.KEY, **(env or {})}
        self.config = {"minimumVolumeGb": 1, "rclone": str(pathlib.Path(sys.executable).parent / "rclone"), **(config or {})}
        self.process = None
        self.starts = 0

    def spawn(self, *extra):
        config = self.folder / "config.json"
        config.write_text(json.dumps(self.config))
        self.starts += 1
        self.log = self.folder / f"server-{self.starts}.log"
        command = [str(ROOST), "serve", "--data-dir", str(self.data), "--listen", f"127.0.0.1:{self.port}",
                   "--s3-listen", f"127.0.0.1:{self.s3_port}", "--config", str(config), *extra]
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT,
                                            env={**os.environ, **self.env}, start_new_session=True)
        return self

    def start(self):
        self.spawn()

        def listening():
            assert self.process.poll() is None, f"the server ended:\n{self.log.read_text()}"
            return re.search(r"roost listens on http://127.0.0.1:(\d+)", self.log.read_text())

        # The port stays the same over restarts, so that workers find the server again.
        self.port = int(wait_until(listening, 30, "listening").group(1))
        self.url = f"http://127.0.0.1:{self.port}"
        if door := re.search(r"S3 listens on (https?)://127.0.0.1:(\d+)", self.log.read_text()):
            self.scheme, self.s3_port = door.group(1), int(door.group(2))
        return self

    def terminate(self, seconds=40):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill()
        # What a killed server left: its containers, by their own state folder.
        for worker in (self.data / "workers").glob("*"):
            for tool in ("crun", "runc"):
                subprocess.run([tool, "--root", str(self.data / "runtime"), "delete", "--force", worker.name],
                               capture_output=True)
        wait_until(lambda: not self.loops(), 20, "loop devices detached")
        shutil.rmtree(self.data, ignore_errors=True)

    def loops(self):
        out = subprocess.run(["losetup", "--list", "--noheadings", "--output", "BACK-FILE"],
                             capture_output=True, text=True).stdout
        return [line for line in out.splitlines() if line.startswith(str(self.data))]

    # HTTP

    def call(self, method, path, expect=200, key=None, **kwargs):
        headers = {"Authorization": f"Bearer {key or self.KEY}", **kwargs.pop("headers", {})}
        answer = requests.request(method, self.url + path, headers=headers, timeout=120, **kwargs)
        if expect is not None:
            expected = expect if isinstance(expect, tuple) else (expect,)
            assert answer.status_code in expected, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def get(self, path, **kwargs):
        return self.call("GET", path, **kwargs).json()

    def post(self, path, body=None, **kwargs):
        return self.call("POST", path, json=body, **kwargs).json()

    def cli(self, *arguments, code=0, key=None):
        done = subprocess.run([str(ROOST), *arguments], capture_output=True, text=True, timeout=120,
                              env={**os.environ, "ROOST_URL": self.url, "ROOST_API_KEY": key or self.KEY})
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def import_image(self):
        layers = image_layers()
        if layers:
            target = self.data / "images/layers"
            target.mkdir(parents=True, exist_ok=True)
            for layer in layers:
                if not (target / layer.name).exists():
                    link_or_copy(layer, target / layer.name)
        self.cli("image", "import", IMAGE, str(worker_image()))
        return self

    # S3

    def s3_key(self, **limits):
        """Access key and secret of a new S3 key."""
        made = self.post("/v1/s3keys", limits)
        return made["accessKeyId"], made["secretAccessKey"]

    @property
    def s3_url(self):
        return f"{self.scheme}://127.0.0.1:{self.s3_port}"

    def s3(self, key=None, **kwargs):
        """A boto3 client of the door; one key that may do all serves all clients that bring none."""
        if key is None:
            key = self.__dict__.setdefault("all_key", None) or self.s3_key(name="all")
            self.all_key = key
        import boto3
        return boto3.client("s3", endpoint_url=self.s3_url, aws_access_key_id=key[0], aws_secret_access_key=key[1],
                            region_name=kwargs.pop("region_name", "LOCAL-1"), **kwargs)

    def volume_id(self, name):
        return next(volume["id"] for volume in self.get("/v1/networkvolumes") if volume["name"] == name)

    def volume_path(self, name):
        """Where a volume's tree lies: in the server's own mount namespace."""
        return f"{self.data}/mnt/volumes/{self.volume_id(name)}/data"

    def on_volume(self, name, code):
        """Runs Python code in the server's mount namespace with a volume's tree as working directory, as a worker would see it."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.process.pid), "-m", sys.executable, "-c", f"import os\nos.chdir({self.volume_path(name)!r})\n{code}"],
            capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def aws(self, *arguments, code=0, key=None, env=None, cwd=None):
        """The AWS CLI, as it comes."""
        if key is None:
            self.s3()
            key = self.all_key
        done = subprocess.run(
            [str(pathlib.Path(sys.executable).parent / "aws"), *arguments], capture_output=True, text=True, timeout=300, cwd=cwd,
            env={**os.environ, "AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1], "AWS_ENDPOINT_URL": self.s3_url,
                 "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", **(env or {})})
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    # Jobs

    def endpoint(self, handler, template=None, **fields):
        """Deploys a handler of the folder `handlers`, unchanged, and returns the endpoint's id."""
        source = (HANDLERS / f"{handler}.py").read_text()
        count = self.__dict__.setdefault("count", 0)
        self.count = count + 1
        made = self.post("/v1/templates", {
            "name": f"{handler}-{self.count}", "imageName": IMAGE, "containerDiskInGb": 1,
            "dockerStartCmd": ["python3", "-u", "-c", source], **(template or {})})
        settings = {"templateId": made["id"], "vcpuCount": 1, "memoryInGb": 1, "workersMax": 1, "idleTimeout": 120, **fields}
        return self.post("/v1/endpoints", settings)["id"]

    def parked_endpoint(self):
        """An endpoint that may not start workers, and needs no image: its jobs stay queued."""
        template = self.post("/v1/templates", {"name": "parked", "imageName": "none:1"})["id"]
        return self.post("/v1/endpoints", {"templateId": template, "workersMax": 0})["id"]

    def run(self, endpoint, input, **more):
        return self.post(f"/v2/{endpoint}/run", {"input": input, **more})["id"]

    def finish(self, endpoint, job, seconds=60):
        """Waits until a job has ended and returns it."""
        end = time.monotonic() + seconds
        while True:
            status = self.get(f"/v2/{endpoint}/status-sync/{job}?wait=5000")
            if status["status"] not in ("IN_QUEUE", "IN_PROGRESS"):
                return status
            assert time.monotonic() < end, f"job still {status} after {seconds} s:\n{self.log.read_text()[-3000:]}"

    def do(self, endpoint, input, seconds=60, **more):
        return self.finish(endpoint, self.run(endpoint, input, **more), seconds)

    def workers(self, endpoint):
        return self.get(f"/v1/endpoints/{endpoint}/workers")

    def remove(self, endpoint):
        self.call("DELETE", f"/v1/endpoints/{endpoint}", expect=204)


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


_image = None


def worker_image():
    """Debian + Python + the real runpod SDK, made once and cached."""
    global _image
    if _image is None:
        _image = pathlib.Path(tempfile.gettempdir()) / f"roost-acceptance-{os.getpid()}.tar"
        subprocess.run([ROOT / "scripts/make-image.sh", _image, "runpod==1.12.0"], check=True)
    return _image


_layers = []


def image_layers():
    return [layer for layer in _layers if layer.exists()]


@pytest.fixture(scope="session")
def work_folder():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="roost-", dir=os.environ.get("ROOST_TEST_DIR")))
    yield folder
    for server in folder.iterdir():
        shutil.rmtree(server, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    if _image:
        _image.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def server(work_folder):
    """The server most tests share, with the test image."""
    folder = work_folder / "shared"
    folder.mkdir()
    server = Server(folder, {"jobRetries": 1, "cancelGraceSeconds": 5}).start()
    try:
        server.import_image()
        _layers.extend((server.data / "images/layers").glob("*.erofs"))
        yield server
    finally:
        server.close()


@pytest.fixture
def make_server(work_folder, request):
    """Servers of a test's own."""
    made = []

    def make(config=None, image=False, **kwargs):
        folder = pathlib.Path(tempfile.mkdtemp(dir=work_folder))
        server = Server(folder, config, **kwargs)
        made.append(server)
        server.start()
        return server.import_image() if image else server

    yield make
    for server in made:
        server.close()


@pytest.fixture
def small_disk(work_folder):
    """A disk of 150 MB of its own, as a server's data directory; its log then lies elsewhere."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=work_folder))
    image, mount = folder / "small.img", folder / "small"
    mount.mkdir()
    with open(image, "wb") as file:
        file.truncate(150 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)
    image.unlink()


class Deployed:
    """Endpoints of one test."""

    def __init__(self, server):
        self.server, self.made = server, []

    def __call__(self, own=None, **fields):
        self.made.append((own or self.server, (own or self.server).endpoint("sync", **fields)))
        return self.made[-1][1]

    def remove(self):
        for server, endpoint in self.made:
            if server.process.poll() is None:
                server.call("DELETE", f"/v1/endpoints/{endpoint}", expect=(204, 404))
        self.made = []


@pytest.fixture
def deploy(server):
    """Makes endpoints that run the handler `sync`, and removes them after the test."""
    deployed = Deployed(server)
    yield deployed
    deployed.remove()


@pytest.fixture(scope="module", params=[Rclone, SeaweedFS], ids=["rclone", "seaweedfs"])
def foreign(request, tmp_path_factory):
    """A store that is not ours, of each kind in turn."""
    store = request.param(tmp_path_factory.mktemp("foreign"))
    yield store
    store.stop()


@pytest.fixture
def bucket(server):
    """A bucket of the test's own on the shared server, gone afterwards with all that is in it."""
    server.__dict__.setdefault("bucket_count", 0)
    server.bucket_count += 1
    name = f"bucket-{os.getpid()}-{server.bucket_count}"
    client = server.s3()
    client.create_bucket(Bucket=name)
    yield name
    server.call("DELETE", f"/v1/networkvolumes/{server.volume_id(name)}", expect=None)


@pytest.fixture
def s3(server):
    return server.s3()
