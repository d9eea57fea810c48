"""Volume to object store and back, by the server."""

import hashlib
import json
import os

import pytest
from conftest import wait_until
from stores import Rclone, SeaweedFS

FILES = {"a.txt": b"a" * 10, "deep/er/b.bin": os.urandom(3_000_000), "deep/größe mit leer.txt": b"x", "empty": b"", "large.bin": os.urandom(40 << 20)}


@pytest.fixture(scope="module")
def name(server, foreign):
    name = f"sync-{type(foreign).__name__.lower()}"
    server.post("/v1/objectstores", {"name": name, "prefix": "team", **foreign.fields})
    return name


def ended(server, sync):
    return wait_until(lambda: (now := server.get(f"/v1/syncs/{sync}"))["status"] in ("COMPLETED", "FAILED") and now, 120, "the sync's end")


def fill(server, bucket, files):
    for key, body in files.items():
        server.s3().put_object(Bucket=bucket, Key="data/" + key, Body=body)


def test_there_and_back(server, bucket, foreign, name):
    fill(server, bucket, FILES)
    # A file that a worker wrote has no MD5 that anybody knows.
    server.on_volume(bucket, "open('data/by-worker', 'w').write('written past S3')")
    files = {**FILES, "by-worker": b"written past S3"}
    out = server.cli("volume", "sync", f"{bucket}:data", f"{name}:copy").stdout
    assert f"{len(files)} of {len(files)} files copied" in out and "0 unchanged" in out, out
    assert foreign.keys("team/copy/") == sorted("team/copy/" + key for key in files)
    for key, body in files.items():
        assert foreign.read("team/copy/" + key) == body, key
    # Again: nothing to do. Then one changed, one new, one of the same size.
    assert f"0 of {len(files)} files copied" in server.cli("volume", "sync", f"{bucket}:data", f"{name}:copy").stdout
    fill(server, bucket, {"a.txt": b"b" * 10, "new": b"new"})
    server.on_volume(bucket, "open('data/by-worker', 'w').write('WRITTEN past S3')")
    assert f"3 of {len(files) + 1} files copied" in server.cli("volume", "sync", f"{bucket}:data", f"{name}:copy").stdout
    assert foreign.read("team/copy/a.txt") == b"b" * 10 and foreign.read("team/copy/by-worker") == b"WRITTEN past S3"
    # And back, elsewhere; what is only there stays.
    server.s3().put_object(Bucket=bucket, Key="back/only-here", Body=b"stays")
    server.cli("volume", "sync", f"{name}:copy", f"{bucket}:back")
    there = server.on_volume(bucket, "import hashlib, pathlib, json; print(json.dumps({str(p.relative_to('back')): hashlib.md5(p.read_bytes()).hexdigest() for p in pathlib.Path('back').rglob('*') if p.is_file()}))")
    wanted = {**files, "a.txt": b"b" * 10, "by-worker": b"WRITTEN past S3", "new": b"new", "only-here": b"stays"}
    assert json.loads(there) == {key: hashlib.md5(body).hexdigest() for key, body in wanted.items()}
    assert f"0 of {len(files) + 1} files copied" in server.cli("volume", "sync", f"{name}:copy", f"{bucket}:back").stdout
    # One object by its name.
    server.cli("volume", "sync", f"{name}:copy/new", f"{bucket}:one/")
    assert server.s3().get_object(Bucket=bucket, Key="one/new")["Body"].read() == b"new"


def test_it_goes_on_after_the_server_was_killed(make_server, tmp_path):
    store = Rclone(tmp_path / "slow")
    own = make_server()
    try:
        own.post("/v1/objectstores", {"name": "slow", **store.fields})
        own.s3().create_bucket(Bucket="vol")
        volume = own.volume_id("vol")
        body = os.urandom(64 << 20)
        for number in range(6):
            own.s3().put_object(Bucket="vol", Key=f"f{number}", Body=body)
        sync = own.post("/v1/syncs", {"source": f"volume:{volume}", "target": "store:slow/x"})["id"]
        wait_until(lambda: own.get(f"/v1/syncs/{sync}")["copiedBytes"] > 20 << 20, 60, "some of it copied")
        own.kill()
        own.start()
        done = ended(own, sync)
        assert done["status"] == "COMPLETED" and done["copiedFiles"] + done["unchangedFiles"] == 6 and done["runs"] == 2, done
        assert all(store.read(f"x/f{number}") == body for number in (0, 5))
        # Nothing half-sent is left at the store.
        assert not store.s3().list_multipart_uploads(Bucket=store.bucket).get("Uploads")
    finally:
        store.stop()


def test_by_the_clock_and_after_jobs(server, bucket, foreign, name):
    server.s3().put_object(Bucket=bucket, Key="clock/one", Body=b"1")
    volume = server.volume_id(bucket)
    endpoint = server.endpoint("sync", networkVolumeId=volume)
    after = server.cli("volume", "sync", f"{bucket}:out", f"{name}:out", "--after-jobs-of", endpoint).stdout.strip()
    timed = server.post("/v1/syncs", {"source": f"volume:{volume}/clock", "target": f"store:{name}/clock", "everySeconds": 10})["id"]
    try:
        assert ended(server, timed)["copiedFiles"] == 1 and server.get(f"/v1/syncs/{after}")["status"] == "WAITING"
        code = "import os; os.makedirs('/runpod-volume/out', exist_ok=True); open('/runpod-volume/out/result', 'w').write('done')"
        assert server.do(endpoint, {"python": code})["status"] == "COMPLETED"
        assert ended(server, after)["copiedFiles"] == 1 and foreign.read("team/out/result") == b"done"
        wait_until(lambda: server.get(f"/v1/syncs/{timed}")["runs"] >= 2, 30, "its second run")
        listed = server.cli("sync", "list").stdout
        assert after in listed and timed in listed
    finally:
        for sync in (after, timed):
            server.call("DELETE", f"/v1/syncs/{sync}", expect=204)
        server.remove(endpoint)
    assert server.call("GET", f"/v1/syncs/{timed}", expect=404) is not None


def test_what_cannot_be_copied(server, bucket, foreign, name):
    """Keys that are no paths: said, and the others copied."""
    volume = server.volume_id(bucket)
    foreign.put("team/odd/fine", b"fine")
    foreign.put("team/odd/a", b"a file")
    if isinstance(foreign, SeaweedFS):
        pytest.skip("SeaweedFS is a tree itself: it has no such keys")
    server.s3().put_object(Bucket=bucket, Key="odd/a/b", Body=b"a folder where a file is to be")
    sync = server.post("/v1/syncs", {"source": f"store:{name}/odd", "target": f"volume:{volume}/odd"})["id"]
    done = ended(server, sync)
    assert done["status"] == "FAILED" and done["copiedFiles"] == 1 and done["failedFiles"] == 1 and "odd/a" in done["errors"][0], done
    assert server.s3().get_object(Bucket=bucket, Key="odd/fine")["Body"].read() == b"fine"
    server.post("/v1/objectstores", {"name": f"gone-{name}", **foreign.fields, "bucketName": "absent"})
    failed = ended(server, server.post("/v1/syncs", {"source": f"volume:{volume}", "target": f"store:gone-{name}"})["id"])
    assert failed["status"] == "FAILED" and "no bucket 'absent'" in failed["errors"][0], failed
    for bad, part in (({"source": "x", "target": f"store:{name}"}, "volume:ID"), ({"source": "store:none", "target": f"store:{name}"}, "no object store"),
                      ({"source": f"store:{name}/a", "target": f"store:{name}/a/b"}, "lies in the source"), ({"source": f"store:{name}"}, "'target' is required")):
        answer = server.call("POST", "/v1/syncs", json=bad, expect=(400, 404))
        assert part in answer.json()["error"], answer.text
