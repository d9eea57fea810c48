"""`roost volume ls|cp|mv|rm|cat|du|sync`, rclone, and what the AWS CLI does with whole folders."""

import hashlib
import json
import os
import pathlib
import pty
import re
import select
import subprocess
import sys

import pytest
import requests
from conftest import ROOST, wait_until

MIB = 1 << 20


@pytest.fixture
def files(tmp_path):
    root = tmp_path / "local"
    for name, size in (("a.txt", 10), ("b.bin", 100_000), ("sub/c.txt", 20), ("sub/deep/d.bin", 5), ("sub/e e+%.txt", 7)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return root


def tree(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in pathlib.Path(root).rglob("*") if path.is_file()}


def names(server, path, *flags):
    return [item["key"] for item in json.loads(server.cli("volume", "ls", path, "--json", *flags).stdout)["files"]]


def test_folders_up_and_down(server, bucket, files, tmp_path):
    out = server.cli("volume", "cp", "-r", str(files), f"{bucket}:model").stdout
    assert "5 files" in out
    assert names(server, bucket, "-r") == sorted(f"model/{name}" for name in tree(files))
    server.cli("volume", "cp", "-r", f"{bucket}:model", str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(files)
    raw = subprocess.run([str(ROOST), "volume", "cat", f"{bucket}:model/b.bin"], capture_output=True, check=True,
                         env={**os.environ, "ROOST_URL": server.url, "ROOST_API_KEY": server.KEY})
    assert raw.stdout == (files / "b.bin").read_bytes()
    shown = json.loads(server.cli("volume", "ls", bucket, "--json").stdout)
    assert shown["folders"] == ["model/"]
    assert json.loads(server.cli("volume", "ls", f"{bucket}:model", "--json").stdout)["folders"] == ["model/sub/"]
    usage = json.loads(server.cli("volume", "du", f"{bucket}:model", "--json").stdout)
    assert usage["total"] == {"files": 5, "bytes": 100_042} and usage["sub/"]["files"] == 3
    assert "TIB" not in server.cli("volume", "du", bucket).stdout


def test_single_files_patterns_and_moves(server, bucket, files, tmp_path):
    server.cli("volume", "cp", str(files / "a.txt"), f"{bucket}:named")
    server.cli("volume", "cp", str(files / "a.txt"), str(files / "b.bin"), f"{bucket}:into/")
    assert names(server, bucket, "-r") == ["into/a.txt", "into/b.bin", "named"]
    server.cli("volume", "cp", f"{bucket}:into/*.txt", f"{bucket}:copies/")
    server.cli("volume", "mv", f"{bucket}:named", f"{bucket}:moved/name")
    assert names(server, bucket, "-r") == ["copies/a.txt", "into/a.txt", "into/b.bin", "moved/name"]
    assert names(server, f"{bucket}:**/a.t[wx]t") == ["copies/a.txt", "into/a.txt"]
    assert "would remove" in server.cli("volume", "rm", f"{bucket}:into/*", "--dry-run").stdout
    assert "removed 2" in server.cli("volume", "rm", f"{bucket}:into/*").stdout
    server.cli("volume", "mv", "-r", f"{bucket}:", str(tmp_path / "all"))
    assert sorted(tree(tmp_path / "all")) == ["copies/a.txt", "moved/name"] and names(server, bucket, "-r") == []
    server.cli("volume", "mv", str(files / "a.txt"), f"{bucket}:gone")
    assert not (files / "a.txt").exists() and names(server, bucket) == ["gone"]


def test_sync_both_ways(server, bucket, files, tmp_path):
    assert "5 files" in server.cli("volume", "sync", str(files), f"{bucket}:s").stdout
    assert "0 files" in server.cli("volume", "sync", str(files), f"{bucket}:s").stdout
    (files / "a.txt").unlink()
    (files / "b.bin").write_bytes(b"other size")
    dry = server.cli("volume", "sync", str(files), f"{bucket}:s", "--delete", "--dry-run").stdout
    assert "copied" in dry and "deleted" in dry and len(names(server, bucket, "-r")) == 5
    out = server.cli("volume", "sync", str(files), f"{bucket}:s", "--delete").stdout
    assert "1 files" in out and out.count("deleted") == 1
    server.cli("volume", "sync", f"{bucket}:s", str(tmp_path / "down"))
    assert tree(tmp_path / "down") == tree(files)
    assert "0 files" in server.cli("volume", "sync", f"{bucket}:s", str(tmp_path / "down")).stdout
    (tmp_path / "down/extra").write_text("x")
    server.cli("volume", "sync", f"{bucket}:s", str(tmp_path / "down"), "--delete")
    assert tree(tmp_path / "down") == tree(files)


def test_large_files_go_in_parts_and_go_on_where_they_stopped(server, s3, bucket, tmp_path):
    source = tmp_path / "large"
    source.write_bytes(os.urandom(70 * MIB + 11))
    # What a killed run leaves: an upload with some of its parts.
    upload = s3.create_multipart_upload(Bucket=bucket, Key="large")["UploadId"]
    data = source.read_bytes()
    for number in (1, 3):
        s3.upload_part(Bucket=bucket, Key="large", UploadId=upload, PartNumber=number, Body=data[(number - 1) * 16 * MIB:number * 16 * MIB])
    s3.upload_part(Bucket=bucket, Key="large", UploadId=upload, PartNumber=2, Body=b"x" * 16 * MIB)
    out = server.cli("volume", "cp", str(source), f"{bucket}:large").stdout
    assert "32.0 MiB of it from an earlier run" in out
    assert hashlib.md5(s3.get_object(Bucket=bucket, Key="large")["Body"].read()).digest() == hashlib.md5(data).digest()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    # Down: half of it is there already.
    etag = s3.head_object(Bucket=bucket, Key="large")["ETag"].strip('"')
    (tmp_path / f"back.roost-{etag[:16]}").write_bytes(data[:40 * MIB])
    out = server.cli("volume", "cp", f"{bucket}:large", str(tmp_path / "back")).stdout
    assert "40.0 MiB of it from an earlier run" in out and (tmp_path / "back").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir() if "roost-" in path.name] == []


def test_the_progress_bar(server, bucket, tmp_path):
    source = tmp_path / "shown"
    source.write_bytes(os.urandom(120 * MIB))
    leader, follower = pty.openpty()
    process = subprocess.Popen([str(ROOST), "volume", "cp", str(source), f"{bucket}:shown"], stdout=subprocess.PIPE, stderr=follower,
                               env={**os.environ, "ROOST_URL": server.url, "ROOST_API_KEY": server.KEY})
    os.close(follower)
    seen = b""
    while process.poll() is None or select.select([leader], [], [], 0)[0]:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                seen += os.read(leader, 65536)
            except OSError:
                break
    os.close(leader)
    assert process.wait() == 0
    assert re.search(rb"\d+\.\d MiB of 120\.0 MiB  \d+ %  [\d.]+ [KMG]iB/s  ETA \d+:\d\d  0 of 1 files", seen), seen[-500:]


def test_mistakes_are_named(server, bucket, tmp_path):
    for arguments, part in ((("cp", "/no/such", f"{bucket}:x"), "no file"), (("cp", f"{bucket}:none", str(tmp_path)), "there is no"),
                            (("cp", str(tmp_path), f"{bucket}:x"), "--recursive"), (("cp", "one"), "target"), (("rm", "/etc/passwd"), "volumes"),
                            (("cat", bucket), "VOLUME:path"), (("cp", f"{bucket}:*.none", str(tmp_path)), "nothing matches")):
        done = subprocess.run([str(ROOST), "volume", *arguments], capture_output=True, text=True,
                              env={**os.environ, "ROOST_URL": server.url, "ROOST_API_KEY": server.KEY})
        assert done.returncode != 0 and part in done.stderr, done
    assert "no bucket" in server.cli("volume", "ls", "no-such-volume", code=1).stderr
    # No key stays behind.
    assert not [key for key in server.get("/v1/s3keys") if key["name"] == "roost volume"]


def test_the_door_is_where_the_api_is(make_server):
    server = make_server()
    assert server.get("/v1/s3")["url"] == server.s3_url
    server.terminate()
    process = server.spawn("--s3-listen", f"0.0.0.0:{server.s3_port}").process
    wait_until(lambda: "roost listens" in server.log.read_text(), 20)
    for host, expected in ((f"127.0.0.1:{server.port}", "127.0.0.1"), (f"roost.example:{server.port}", "roost.example"), ("bad host", "127.0.0.1")):
        answer = requests.get(f"{server.url}/v1/s3", headers={"Authorization": server.KEY, "Host": host}, timeout=10)
        if answer.status_code == 200:
            assert answer.json()["url"] == f"http://{expected}:{server.s3_port}"
    assert process.poll() is None


def rclone(server, *arguments):
    access, secret = server.s3() and server.all_key
    done = subprocess.run(
        [str(pathlib.Path(sys.executable).parent / "rclone"), *arguments, "--config", "/dev/null", "--s3-provider", "Other", "--s3-endpoint", server.s3_url,
         "--s3-access-key-id", access, "--s3-secret-access-key", secret, "--s3-region", "us-east-1"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def test_rclone(server, bucket, files, tmp_path):
    (files / "big").write_bytes(os.urandom(20 * MIB))
    rclone(server, "sync", str(files), f":s3:{bucket}/r", "--s3-upload-cutoff", "5M")
    rclone(server, "check", str(files), f":s3:{bucket}/r")
    again = rclone(server, "sync", str(files), f":s3:{bucket}/r", "-v")
    assert "Copied" not in again.stderr
    rclone(server, "copy", f":s3:{bucket}/r", str(tmp_path / "r"))
    assert tree(tmp_path / "r") == tree(files)
    rclone(server, "moveto", f":s3:{bucket}/r/big", f":s3:{bucket}/bigger")
    assert "bigger" in rclone(server, "lsf", f":s3:{bucket}").stdout
    rclone(server, "purge", f":s3:{bucket}/r")
    assert rclone(server, "lsf", f":s3:{bucket}").stdout == "bigger\n"


def test_the_aws_cli(server, s3, bucket, files, tmp_path):
    (files / "big").write_bytes(os.urandom(30 * MIB))
    server.aws("s3", "cp", "--recursive", str(files), f"s3://{bucket}/x", "--no-progress")
    listed = server.aws("s3", "ls", "--recursive", "--summarize", f"s3://{bucket}")
    assert "Total Objects: 6" in listed
    server.aws("s3", "mv", f"s3://{bucket}/x/big", f"s3://{bucket}/moved", "--no-progress")
    server.aws("s3", "cp", f"s3://{bucket}/moved", str(tmp_path / "big"), "--no-progress")
    assert (tmp_path / "big").read_bytes() == (files / "big").read_bytes()
    assert "PRE x/" in server.aws("s3", "ls", f"s3://{bucket}")
    server.aws("s3", "rm", "--recursive", f"s3://{bucket}/x")
    assert server.aws("s3", "ls", "--recursive", f"s3://{bucket}").count("\n") == 1
    server.aws("s3", "mb", "s3://cli-made")
    assert "cli-made" in server.aws("s3", "ls")
    server.aws("s3", "cp", str(files / "a.txt"), "s3://cli-made/a", "--no-progress")
    assert "BucketNotEmpty" in subprocess.run([str(pathlib.Path(sys.executable).parent / "aws"), "s3", "rb", "s3://cli-made"], capture_output=True, text=True,
                                              env={**os.environ, "AWS_ACCESS_KEY_ID": server.all_key[0], "AWS_SECRET_ACCESS_KEY": server.all_key[1],
                                                   "AWS_ENDPOINT_URL": server.s3_url, "AWS_DEFAULT_REGION": "us-east-1"}).stderr
    server.aws("s3", "rb", "--force", "s3://cli-made")
    assert "cli-made" not in server.aws("s3", "ls")
