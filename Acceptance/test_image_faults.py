"""Images that mean harm or are out of proportion, and disks and servers that end in the middle of them."""

import gzip
import hashlib
import io
import os
import pathlib
import subprocess
import tarfile

import pytest
from conftest import HANDLERS, ROOST, Server, wait_until, worker_image
from test_images import layer, layout, packed_layout

HANDLER = (HANDLERS / "sync.py").read_text()
ENV = ["RUNNER=python3 -u /srv/handler.py", "PATH=/usr/bin:/bin"]


def special(*entries):
    """A layer of entries that are no plain files: (name, type, fields)."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, fields in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o666
            data = fields.pop("data", b"")
            for key, value in fields.items():
                setattr(info, key, value)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def run_image(server, folder, name, *jobs):
    """Imports a layout, has a worker of it do jobs, and returns their outputs."""
    server.cli("image", "import", name, str(folder))
    template = server.post("/v1/templates", {"name": name, "imageName": name, "containerDiskInGb": 1})["id"]
    endpoint = server.post("/v1/endpoints", {"templateId": template, "vcpuCount": 1, "memoryInGb": 1})["id"]
    done = [server.do(endpoint, job) for job in jobs]
    server.call("DELETE", f"/v1/endpoints/{endpoint}", expect=204)
    assert all(job["status"] == "COMPLETED" for job in done), done
    return [job["output"] for job in done]


def test_a_hundred_layers_some_of_them_twice_and_some_empty(server, tmp_path):
    layers = [layer({"srv": None, "tmp": None, "srv/handler.py": HANDLER})]
    for number in range(95):
        layers.append(layer({f"srv/n{number}": str(number), "srv/last": str(number)}))
    empty = layer({})
    folder = layout(tmp_path / "oci", worker_image(), *layers, empty, layers[1], empty, layer({"srv/.wh.n7": ""}), env=ENV)
    [output] = run_image(server, folder, "many/layers:1", {"shell": "ls /srv | wc -l; cat /srv/last; test -e /srv/n7 || echo none"})
    # handler.py, last, 95 numbers of which one is gone; the layer that comes again last counts there.
    assert output["out"].split() == ["96", "0none"], output


def test_devices_and_setuid_files_are_of_no_use(server, tmp_path):
    """Device nodes that an image brings cannot be opened, and its set-user-id programs raise nobody."""
    with tarfile.open(worker_image()) as tar:
        python = tar.extractfile(next(entry for entry in tar if entry.name.endswith("usr/bin/python3.11"))).read()
    folder = layout(
        tmp_path / "oci", worker_image(), layer({"srv": None, "tmp": None, "srv/handler.py": HANDLER}),
        special(("srv/kmsg", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 11}), ("srv/mem", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 1}),
                ("srv/loop0", tarfile.BLKTYPE, {"devmajor": 7, "devminor": 0}), ("srv/fuse", tarfile.CHRTYPE, {"devmajor": 10, "devminor": 229}),
                ("srv/pipe", tarfile.FIFOTYPE, {}), ("srv/su", tarfile.REGTYPE, {"mode": 0o6755, "data": python})), env=ENV)
    check = """
import os, subprocess
result = {'who': os.getuid(), 'raised': subprocess.run(['/srv/su', '-c', 'import os; print(os.geteuid(), os.getegid())'], capture_output=True, text=True).stdout.split()}
for name in ('kmsg', 'mem', 'loop0', 'fuse'):
    try:
        os.close(os.open('/srv/' + name, os.O_RDWR | os.O_NONBLOCK))
        result[name] = 'opened'
    except OSError as error:
        result[name] = error.strerror
"""
    [output] = run_image(server, folder, "hostile/nodes:1", {"python": check})
    assert output["who"] != 0 and output["raised"] == [str(output["who"])] * 2, output
    for name in ("kmsg", "mem", "loop0", "fuse"):
        assert output[name] in ("Operation not permitted", "Permission denied", "No such device or address"), output
    assert output["kmsg"] == output["loop0"] == "Operation not permitted", output


def test_times_of_change_are_kept(server, tmp_path):
    """Python compiles a module anew when its time is not the one in its .pyc: with lost times every start took a second more."""
    folder = layout(
        tmp_path / "oci", worker_image(), layer({"srv": None, "tmp": None, "srv/handler.py": HANDLER}),
        special(("srv/old", tarfile.REGTYPE, {"mtime": 1_234_567_890, "data": b"x"}), ("srv/dir", tarfile.DIRTYPE, {"mtime": 1_000_000_000, "mode": 0o755})), env=ENV)
    check = """
import importlib._bootstrap_external as loader, json, os, runpod, time
stale = []
for module in ('json/decoder', 'asyncio/base_events'):
    source = f'/usr/lib/python3.11/{module}.py'
    with open(loader.cache_from_source(source), 'rb') as file: head = file.read(16)
    if int.from_bytes(head[4:8], 'little') == 0 and int.from_bytes(head[8:12], 'little') != int(os.stat(source).st_mtime): stale.append(module)
source = runpod.__file__
with open(loader.cache_from_source(source), 'rb') as file: head = file.read(16)
result = {'old': os.stat('/srv/old').st_mtime, 'dir': os.stat('/srv/dir').st_mtime, 'stale': stale,
          'sdk': int.from_bytes(head[8:12], 'little') == int(os.stat(source).st_mtime)}
"""
    [output] = run_image(server, folder, "times:1", {"python": check})
    assert output == {"old": 1_234_567_890, "dir": 1_000_000_000, "stale": [], "sdk": True}, output


def bomb(folder, gib):
    """An image whose one layer is small and unpacks to so many GiB of zeros."""
    head = tarfile.TarInfo("bin/zeros")
    head.size = gib << 30
    raw, packed = hashlib.sha256(), io.BytesIO()
    with gzip.open(packed, "wb", 1) as out:
        for piece in [head.tobuf(tarfile.GNU_FORMAT)] + [bytes(16 << 20)] * (gib * 64) + [bytes(10240)]:
            raw.update(piece)
            out.write(piece)
    return packed_layout(folder, [(raw.hexdigest(), packed.getvalue())], {})


@pytest.fixture
def cramped(small_disk, tmp_path):
    """A server on a disk of 150 MB."""
    server = Server(tmp_path, {"diskReserveGb": 0})
    server.data = small_disk / "data"
    yield server.start()
    server.close()


def left(server):
    return [path for folder in ("staging", "layers", "uploads", "abandoned") for path in (server.data / "images" / folder).glob("*")]


def test_a_disk_that_an_image_would_fill(cramped, tmp_path):
    refused = cramped.cli("image", "import", "bomb:1", str(bomb(tmp_path / "bomb", 1)), code=1).stderr
    assert "too full for an image" in refused, refused
    assert left(cramped) == [] and cramped.get("/v1/images") == []
    # A sparse file takes no room until it is in the image.
    sparse = tmp_path / "sparse"
    (sparse / "bin").mkdir(parents=True)
    with open(sparse / "bin/sparse", "wb") as file:
        file.truncate(4 << 30)
    archive = tmp_path / "sparse.tar"
    subprocess.run(["tar", "--sparse", "-cf", archive, "-C", sparse, "bin"], check=True)
    assert archive.stat().st_size < 1 << 20
    refused = cramped.call("POST", "/v1/images/import?name=sparse:1", data=archive.read_bytes(), expect=507).json()["error"]
    assert "too full for an image" in refused, refused
    # More than the disk holds already as it comes.
    refused = cramped.call("POST", "/v1/images/import?name=large:1", data=os.urandom(200 << 20), expect=507).json()["error"]
    assert "space" in refused or "full" in refused, refused
    assert left(cramped) == [] and cramped.get("/v1/images") == []
    # It goes on.
    cramped.call("POST", "/v1/images/import?name=small:1", data=layer({"usr": None, "usr/x": "1"}))
    assert cramped.post("/v1/templates", {"name": "t", "imageName": "small:1"})["id"]


def test_a_reserve_is_kept(make_server, tmp_path):
    own = make_server({"diskReserveGb": 100_000})
    refused = own.call("POST", "/v1/images/import?name=any:1", data=layer({"usr": None, "usr/x": "1"}), expect=507).json()["error"]
    assert "kept back" in refused
    assert left(own) == []


def test_killed_while_it_imports(make_server, tmp_path):
    own = make_server()
    folder = bomb(tmp_path / "bomb", 1)
    imports = subprocess.Popen([str(ROOST), "image", "import", "bomb:1", str(folder)], env={**os.environ, "ROOST_URL": own.url, "ROOST_API_KEY": own.KEY},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: list((own.data / "images/staging").glob("*/tree/bin/zeros")), 60, "the unpacking begun")
    own.kill()
    assert imports.wait(30) != 0
    own.start()
    assert own.get("/v1/images") == [] and not list((own.data / "images/layers").iterdir()) and not list((own.data / "images/staging").iterdir())
    own.cli("image", "import", "bomb:1", str(folder))
    size = own.get("/v1/images")[0]
    assert pathlib.Path(own.data / f"images/layers/{size['layers'][0][7:]}.erofs").stat().st_size >= 1 << 30
