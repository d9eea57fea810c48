"""Images in every form they come in, and things that are none."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile

import pytest

from conftest import IMAGE, wait_until, worker_image


def layer(files):
    """A gzipped layer: path to text, None for a directory."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(path)
            if text is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                info.size, info.mode = len(text), 0o644
                tar.addfile(info, io.BytesIO(text.encode()))
    return raw.getvalue()


def layout(folder, base, *layers, env=()):
    """An OCI layout: the test image's root filesystem with more layers over it."""
    parts = [(hashlib.sha256(raw).hexdigest(), gzip.compress(raw, 1)) for raw in (base.read_bytes(), *layers)]
    return packed_layout(folder, parts, {"Env": list(env), "Cmd": ["sh", "-c", "exec $RUNNER"], "WorkingDir": "/srv", "User": "www-data"})


def packed_layout(folder, parts, run):
    """An OCI layout of layers that are packed already, each with the SHA-256 of what it unpacks to."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": "sha256:" + digest, "size": len(data)}

    config = blob(json.dumps({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest for digest, _ in parts]},
        "config": run,
    }).encode())
    manifest = blob(json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **blob(packed)} for _, packed in parts],
    }).encode())
    (folder / "index.json").write_text(json.dumps({
        "schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest}]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


@pytest.fixture(scope="module")
def layered(tmp_path_factory, server):
    lower = layer({"srv": None, "srv/handler.py": "import os, pwd, runpod\nrunpod.serverless.start({'handler': lambda job: {\n"
                   "'files': sorted(os.listdir('/srv/data')), 'cwd': os.getcwd(), 'user': pwd.getpwuid(os.getuid()).pw_name, 'env': os.environ['FROM_IMAGE'],\n"
                   "'gone': not os.path.exists('/srv/removed'), 'volume': open('/runpod-volume/t', 'w').write('x') if os.path.isdir('/runpod-volume') else 0}})\n",
                   "srv/removed": "x", "srv/data": None, "srv/data/old": "x"})
    upper = layer({"srv": None, "srv/.wh.removed": "", "srv/data": None, "srv/data/.wh..wh..opq": "", "srv/data/new": "y"})
    return layout(tmp_path_factory.mktemp("oci"), worker_image(), lower, upper,
                  env=["FROM_IMAGE=yes", "RUNNER=python3 -u /srv/handler.py", "PATH=/usr/bin:/bin"])


def deploy(server, image, name):
    volume = server.post("/v1/networkvolumes", {"name": name, "size": 1, "dataCenterId": "LOCAL-1"})["id"]
    template = server.post("/v1/templates", {"name": name, "imageName": image, "containerDiskInGb": 1})["id"]
    return server.post("/v1/endpoints", {"templateId": template, "vcpuCount": 1, "memoryInGb": 1, "networkVolumeId": volume})["id"]


EXPECTED = {"files": ["new"], "cwd": "/srv", "user": "www-data", "env": "yes", "gone": True, "volume": 1}


def test_oci_layout_with_whiteouts_user_and_command(server, layered):
    made = json.loads(server.cli("image", "import", "team/layered:1", str(layered), "--json").stdout)
    assert len(made["layers"]) == 3 and made["digest"].startswith("sha256:")
    endpoint = deploy(server, "team/layered:1", "layered")
    assert server.do(endpoint, {"n": 1})["output"] == EXPECTED
    server.remove(endpoint)


def test_docker_archive(server, layered, tmp_path):
    archive = tmp_path / "image.tar"
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{layered}", f"docker-archive:{archive}:some/name:1"], check=True)
    server.cli("image", "import", "team/docker:1", str(archive))
    endpoint = deploy(server, "team/docker:1", "docker")
    assert server.do(endpoint, {"n": 1})["output"] == EXPECTED
    server.remove(endpoint)


def test_a_layer_with_padding_after_its_end(server, tmp_path):
    """What an archive's reader does not look at belongs to its digest all the same."""
    base = tmp_path / "base.tar"
    base.write_bytes(layer({"bin": None, "bin/x": "y"}) + bytes(8 << 20) + bytes(512))
    server.cli("image", "import", "padded:1", str(layout(tmp_path / "oci", base)))


def test_layers_are_stored_once(server):
    files = list((server.data / "images/layers").glob("*.erofs"))
    assert len(files) == len({file.name for file in files})
    shown = server.get("/v1/images")
    assert len({layer for image in shown for layer in image["layers"]}) == len(files)


@pytest.mark.parametrize("data", [b"", b"not an image at all", b"\x1f\x8b" + b"\0" * 100, layer({"readme": "no system"}),
                                  layer({"oci-layout": "{}"}), layer({"manifest.json": "[{]"})])
def test_what_is_no_image_is_refused(server, data):
    error = server.call("POST", "/v1/images/import?name=bad:1", data=data, expect=400).json()["error"]
    assert "not an image" in error
    assert "bad:1" not in [image["name"] for image in server.get("/v1/images")]
    assert list((server.data / "images/staging").iterdir()) == [] and list((server.data / "images/uploads").iterdir()) == []


@pytest.mark.parametrize("name", ["", "../evil", "/x", "a//b", "a b", "x" * 300])
def test_names_that_are_none(server, name):
    data = layer({"usr": None, "usr/x": "1"})
    if name == "../evil":
        # A name is only a key: nothing is ever stored under it.
        server.call("POST", "/v1/images/import", params={"name": name}, data=data, expect=(200, 400))
        return
    server.call("POST", "/v1/images/import", params={"name": name}, data=data, expect=400)


def test_hostile_tar_stays_in_its_folder(server):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        def add(name, **fields):
            info = tarfile.TarInfo(name)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(b"x" * info.size))
        add("usr", type=tarfile.DIRTYPE, mode=0o755)
        add("../../../../tmp/roost-escaped", size=1)
        add("/tmp/roost-absolute", size=1)
        add("usr/link", type=tarfile.SYMTYPE, linkname="/tmp")
        add("usr/link/roost-through", size=1)
    server.call("POST", "/v1/images/import?name=hostile:1", data=raw.getvalue(), expect=(200, 400))
    import os
    for name in ("roost-escaped", "roost-absolute", "roost-through"):
        assert not os.path.exists("/tmp/" + name)


def test_image_with_paths_too_long_leaves_nothing(server):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for depth in range(1, 40):
            info = tarfile.TarInfo("usr/" + "/".join(["d" * 100] * depth))
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
    server.call("POST", "/v1/images/import?name=deep:1", data=raw.getvalue(), expect=(200, 400, 500))
    assert list((server.data / "images/staging").iterdir()) == []


def test_image_is_found_by_name_and_by_id(server):
    image = [i for i in server.get("/v1/images") if i["name"] == IMAGE][0]
    assert json.loads(server.cli("image", "get", IMAGE).stdout) == json.loads(server.cli("image", "get", image["id"]).stdout) == image


def test_image_imported_anew_drops_its_old_layers(server):
    first = server.call("POST", "/v1/images/import?name=changing:1", data=layer({"usr": None, "usr/a": "1"})).json()
    second = server.call("POST", "/v1/images/import?name=changing:1", data=layer({"usr": None, "usr/a": "2"})).json()
    files = {file.stem for file in (server.data / "images/layers").glob("*.erofs")}
    assert first["layers"][0][7:] not in files and second["layers"][0][7:] in files


def test_image_in_use_is_not_removed(server):
    template = server.post("/v1/templates", {"name": "holds", "imageName": IMAGE})["id"]
    image = [i for i in server.get("/v1/images") if i["name"] == IMAGE][0]
    assert "template" in server.call("DELETE", f"/v1/images/{image['id']}", expect=409).json()["error"]
    server.call("DELETE", f"/v1/templates/{template}", expect=204)
