"""One tree, two doors: what workers do to a volume and what S3 does to it, seen from the other side. And what survives."""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import boto3
import pytest
from conftest import wait_until
from sigv4 import Signer
from test_s3_objects import refused


def keys(s3, bucket, **kwargs):
    return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, **kwargs).get("Contents", [])]


def test_a_worker_and_s3_share_the_volume(server):
    """A real worker, by the real SDK, unchanged handler."""
    volume = server.post("/v1/networkvolumes", {"name": "shared-tree", "size": 1, "dataCenterId": "LOCAL-1"})["id"]
    endpoint = server.endpoint("sync", networkVolumeId=volume)
    s3 = server.s3()
    s3.put_object(Bucket=volume, Key="in/put.txt", Body=b"by s3")
    answer = server.do(endpoint, {"python": """
import os, stat
path = "/runpod-volume/in/put.txt"
info = os.stat(path)
content = open(path).read()
open(path, "a").write(" and a worker")
os.makedirs("/runpod-volume/out/deep")
open("/runpod-volume/out/deep/file", "w").write("by a worker")
os.mkdir("/runpod-volume/in/beside"); open("/runpod-volume/in/beside/x", "w").close()
result = [content, oct(info.st_mode & 0o777), sorted(os.listdir("/runpod-volume"))]
"""})
    assert answer["status"] == "COMPLETED", answer
    assert answer["output"] == ["by s3", "0o666", ["in", "out"]]
    # Listed at once; the ETag of a changed file is another one.
    assert keys(s3, volume) == ["in/beside/x", "in/put.txt", "out/deep/file"]
    got = s3.get_object(Bucket=volume, Key="in/put.txt")
    assert got["Body"].read() == b"by s3 and a worker" and got["ETag"] != f'"{hashlib.md5(b"by s3").hexdigest()}"'
    assert s3.get_object(Bucket=volume, Key="out/deep/file")["Body"].read() == b"by a worker"
    server.remove(endpoint)
    wait_until(lambda: server.get(f"/v1/networkvolumes/{volume}")["mountedBy"] == [], 30)
    server.call("DELETE", f"/v1/networkvolumes/{volume}", expect=204)


def test_etags_of_foreign_files(server, s3, bucket):
    server.on_volume(bucket, "open('f', 'w').write('one')")
    head = s3.head_object(Bucket=bucket, Key="f")
    etag = head["ETag"]
    assert etag.endswith('-0"') and len(etag) > 10 and head["ContentType"] == "binary/octet-stream"
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["ETag"] == etag == s3.get_object(Bucket=bucket, Key="f", IfMatch=etag)["ETag"]
    for change in ("f = open('f', 'r+'); f.write('two')", "open('f', 'a').write('x')", "os.utime('f', (1, 1))", "open('g', 'w').write('onex'); os.rename('g', 'f')"):
        server.on_volume(bucket, change)
        now = s3.head_object(Bucket=bucket, Key="f")["ETag"]
        assert now != etag
        etag = now
    # What S3 wrote keeps the MD5 until somebody changes the file.
    s3.put_object(Bucket=bucket, Key="m", Body=b"body", Metadata={"a": "b"})
    server.on_volume(bucket, "open('m', 'r+').write('BODY')")
    head = s3.head_object(Bucket=bucket, Key="m")
    assert head["ETag"] != f'"{hashlib.md5(b"body").hexdigest()}"' and head["Metadata"] == {}
    assert s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/m")["CopyObjectResult"]["ETag"] == s3.head_object(Bucket=bucket, Key="copy")["ETag"]


def test_a_forged_record_describes_and_breaks_nothing(server, s3, bucket):
    server.on_volume(bucket, r"""
open('f', 'w').write('x')
info = os.stat('f')
head = f'1 {"a" * 32} {info.st_size} {info.st_mtime_ns}\n'.encode()
for name, value in {
    'inject': head + b'{"h":{"content-type":"x\\r\\nSet-Cookie: a=b"}}', 'meta': head + b'{"m":{"a: b\\r\\nx":"y"}}', 'broken': b'\xff\xfe', 'huge': b'1' * 12000,
    'nested': head + b'{"h":' + b'[' * 255, 'deeper': head + b'{"h":' + b'[' * 5000, 'objects': head + b'{"h":' * 250,
    'long': head + b'{"p":"' + b'9' * 3000 + b'x99999999999999999999"}', 'parts': head + b'{"p":"9223372036854775807x9999,9223372036854775807x10000"}',
    'product': head + b'{"p":"1125899906842624x10000"}', 'sum': head + b'{"p":"' + b'922337203685477x10000,' * 5 + b'1x1"}',
}.items():
    open(name, 'w').write('x')
    os.utime(name, ns=(info.st_mtime_ns, info.st_mtime_ns))
    os.setxattr(name, 'user.s3', value)
os.mkdir('folder'); os.setxattr('folder', 'user.s3', head)
""")
    for key in ("inject", "meta", "broken", "huge", "nested", "deeper", "objects", "long", "parts", "product", "sum"):
        head = s3.head_object(Bucket=bucket, Key=key)
        assert "set-cookie" not in head["ResponseMetadata"]["HTTPHeaders"] and head["ContentLength"] == 1
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"x"
        for number in (1, 2, 10_000):
            try:
                s3.get_object(Bucket=bucket, Key=key, PartNumber=number)
            except s3.exceptions.ClientError as error:
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 416)
    assert len(keys(s3, bucket)) == 13


def test_deep_trees_and_odd_times(server, s3, bucket):
    server.on_volume(bucket, """
path = "/".join(["d"] * 500); os.makedirs(path); open(path + "/f", "w").close()
beyond = "/".join(["e"] * 600); os.makedirs(beyond); open(beyond + "/f", "w").close()
for name, time in (("past", -2 ** 31), ("future", 2 ** 33), ("minus", -1)):
    open(name, "w").close(); os.utime(name, (time, time))
open(b"not-\\xff-utf8", "w").close(); open("control-\\x01", "w").close()
""")
    listed = keys(s3, bucket)
    assert "/".join(["d"] * 500) + "/f" in listed and not any(key.startswith("e/") for key in listed)
    assert {"past", "future", "minus", "control-\x01"} <= set(listed) and not any("not-" in key for key in listed)
    for key in ("past", "future", "minus"):
        assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == 0
        assert s3.get_object(Bucket=bucket, Key=key)["ETag"] == s3.head_object(Bucket=bucket, Key=key)["ETag"]


def test_symbolic_links(server, s3, bucket):
    server.on_volume(bucket, """
os.makedirs('blobs'); open('blobs/one', 'w').write('blob')
os.makedirs('snap'); os.symlink('../blobs/one', 'snap/model'); os.symlink('blobs', 'link')
os.symlink('/etc/passwd', 'absolute'); os.symlink('../../../../../../etc/passwd', 'climbs'); os.symlink('/etc', 'etc'); os.symlink('../staging', 'staging')
os.symlink('loop', 'loop'); os.symlink('nowhere', 'dangling'); os.symlink('/proc/self/root/etc/passwd', 'magic')
os.mkfifo('pipe')
""")
    assert s3.get_object(Bucket=bucket, Key="snap/model")["Body"].read() == b"blob"
    assert s3.get_object(Bucket=bucket, Key="link/one")["Body"].read() == b"blob"
    assert keys(s3, bucket) == ["blobs/one", "snap/model"]
    for key in ("absolute", "climbs", "etc/passwd", "magic", "staging/put", "loop", "dangling", "pipe"):
        error = refused(s3.get_object, Bucket=bucket, Key=key)
        assert error in (("AccessDenied", 403), ("NoSuchKey", 404)), key
    assert refused(s3.put_object, Bucket=bucket, Key="etc/roost-was-here", Body=b"x")[1] in (403, 409)
    assert not os.path.exists("/etc/roost-was-here")
    # Writing over a link replaces the link, not what it leads to.
    s3.put_object(Bucket=bucket, Key="absolute", Body=b"mine")
    s3.put_object(Bucket=bucket, Key="snap/model", Body=b"new")
    assert s3.get_object(Bucket=bucket, Key="blobs/one")["Body"].read() == b"blob"
    assert "root:" in open("/etc/passwd").read()


def test_folders_and_files_in_each_others_way(server, s3, bucket):
    s3.put_object(Bucket=bucket, Key="a", Body=b"file")
    assert refused(s3.put_object, Bucket=bucket, Key="a/b", Body=b"x") == ("KeyConflict", 409)
    s3.put_object(Bucket=bucket, Key="d/e", Body=b"x")
    assert refused(s3.put_object, Bucket=bucket, Key="d", Body=b"x") == ("KeyConflict", 409)
    for key in ("d", "a/", "a/b", "d/e/f"):
        assert refused(s3.get_object, Bucket=bucket, Key=key) == ("NoSuchKey", 404)
        s3.delete_object(Bucket=bucket, Key=key)
    assert keys(s3, bucket) == ["a", "d/e"]
    # A folder that S3 made for a key that is gone is in nobody's way.
    s3.delete_object(Bucket=bucket, Key="d/e")
    s3.put_object(Bucket=bucket, Key="d", Body=b"now a file")


def test_folder_objects(server, s3, bucket):
    server.on_volume(bucket, "os.makedirs('made/empty')")
    s3.put_object(Bucket=bucket, Key="kept/", Body=b"")
    s3.put_object(Bucket=bucket, Key="kept/x", Body=b"1")
    assert keys(s3, bucket) == ["kept/", "kept/x", "made/empty/"]
    assert s3.head_object(Bucket=bucket, Key="kept/")["ContentLength"] == 0 and s3.get_object(Bucket=bucket, Key="made/empty/")["Body"].read() == b""
    assert refused(s3.head_object, Bucket=bucket, Key="made/")[1] == 404
    assert refused(s3.put_object, Bucket=bucket, Key="new/", Body=b"not empty") == ("InvalidRequest", 400)
    # Parents first, as the AWS CLI deletes.
    assert "delete:" in server.aws("s3", "rm", "--recursive", f"s3://{bucket}/kept")
    assert keys(s3, bucket) == ["made/empty/"]
    s3.delete_object(Bucket=bucket, Key="made/empty/")
    # A folder that a worker made stays, as an empty folder.
    assert keys(s3, bucket) == ["made/"]
    s3.put_object(Bucket=bucket, Key="kept/", Body=b"")
    s3.put_object(Bucket=bucket, Key="kept/y", Body=b"1")
    s3.delete_object(Bucket=bucket, Key="kept/y")
    assert keys(s3, bucket) == ["kept/", "made/"]


def test_a_reader_never_sees_half_an_object(server, s3, bucket):
    bodies = {hashlib.md5(body).hexdigest(): body for body in (b"a" * 300_000, b"b" * 500_000)}
    s3.put_object(Bucket=bucket, Key="k", Body=b"a" * 300_000)
    stop = threading.Event()

    def write():
        client = server.s3()
        while not stop.is_set():
            for body in bodies.values():
                client.put_object(Bucket=bucket, Key="k", Body=body)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            got = s3.get_object(Bucket=bucket, Key="k")
            assert bodies[got["ETag"].strip('"')] == got["Body"].read()
        seen = server.on_volume(bucket, "print({len(open('k').read()) for _ in range(300)})")
        assert set(re.findall(r"\d+", seen)) <= {"300000", "500000"}
    finally:
        stop.set()
        writer.join()


# Faults

def test_a_full_volume(server, s3):
    client = server.s3(config=boto3.session.Config(retries={"max_attempts": 0}))
    client.create_bucket(Bucket="filled")
    volume = server.volume_id("filled")
    try:
        s3.put_object(Bucket="filled", Key="old", Body=b"old")
        server.on_volume("filled", "f = open('fill', 'wb'); f.write(b'x' * (800 << 20)); f.flush(); os.fsync(f.fileno())")
        used = server.get(f"/v1/networkvolumes/{volume}")["usedBytes"]
        assert refused(client.put_object, Bucket="filled", Key="old", Body=b"y" * (300 << 20)) == ("InsufficientStorage", 507)
        # Without a length to judge by, it runs full on the way.
        signer = Signer(server)
        headers = signer.headers("PUT", "/filled/old", payload="UNSIGNED-PAYLOAD")
        with signer.socket() as link:
            link.sendall(("PUT /filled/old HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "transfer-encoding: chunked\r\n\r\n").encode())
            piece = b"%x\r\n" % (1 << 20) + b"z" * (1 << 20) + b"\r\n"
            for _ in range(400):
                link.sendall(piece)
            link.sendall(b"0\r\n\r\n")
            assert b" 507 " in link.recv(200)
        upload = client.create_multipart_upload(Bucket="filled", Key="old")["UploadId"]
        assert refused(client.upload_part, Bucket="filled", Key="old", UploadId=upload, PartNumber=1, Body=b"y" * (300 << 20))[0] == "InsufficientStorage"
        client.abort_multipart_upload(Bucket="filled", Key="old", UploadId=upload)
        assert s3.get_object(Bucket="filled", Key="old")["Body"].read() == b"old" and keys(s3, "filled") == ["fill", "old"]
        wait_until(lambda: abs(server.get(f"/v1/networkvolumes/{volume}")["usedBytes"] - used) < 1 << 20, 20, "the space coming back")
        assert server.on_volume("filled", "print(sum(len(files) for _, _, files in os.walk('../staging/put')))").strip() == "0"
        s3.delete_object(Bucket="filled", Key="fill")
        client.put_object(Bucket="filled", Key="old", Body=b"y" * (100 << 20))
    finally:
        server.call("DELETE", f"/v1/networkvolumes/{volume}", expect=204)


@pytest.mark.parametrize("sent", [0, 1, 50_000])
def test_a_short_body_and_a_dropped_connection(server, s3, bucket, sent):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    signer = Signer(server)
    for ends_politely in (True, False):
        headers = signer.headers("PUT", f"/{bucket}/k", payload="UNSIGNED-PAYLOAD")
        link = signer.socket()
        link.sendall((f"PUT /{bucket}/k HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "content-length: 100000\r\n\r\n").encode() + b"n" * sent)
        if ends_politely:
            link.shutdown(socket.SHUT_WR)
            answer = link.recv(4096)
            assert b" 400 " in answer and b"IncompleteBody" in answer + link.recv(4096)
        else:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        link.close()
    left = lambda: server.on_volume(bucket, "print(sum(len(files) for _, _, files in os.walk('../staging/put')))").strip()
    wait_until(lambda: left() == "0", 10, "the staged file going")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"


def test_slow_clients_are_let_go(make_server):
    server = make_server({"s3SilenceSeconds": 1})
    client = server.s3()
    client.create_bucket(Bucket="slow")
    signer = Signer(server, server.all_key)
    headers = signer.headers("PUT", "/slow/k", payload="UNSIGNED-PAYLOAD")
    with signer.socket() as link:
        link.sendall(("PUT /slow/k HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "content-length: 1000\r\n\r\n").encode())
        answer = link.recv(4096)
        assert b" 400 " in answer and b"RequestTimeout" in answer + link.recv(4096)
    with signer.socket() as link:
        link.sendall(b"GET / HTT")
        assert link.recv(100) == b""
    with signer.socket() as link:
        assert link.recv(100) == b""
    assert refused(client.get_object, Bucket="slow", Key="k")[0] == "NoSuchKey"


def test_refused_before_the_body_is_sent(server, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    signer = Signer(server)
    headers = signer.headers("PUT", f"/{bucket}/k", payload="UNSIGNED-PAYLOAD", headers={"if-none-match": "*", "expect": "100-continue"})
    with signer.socket() as link:
        link.sendall((f"PUT /{bucket}/k HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "content-length: 1000000\r\n\r\n").encode())
        assert link.recv(4096).startswith(b"HTTP/1.1 412 ")
    headers = signer.headers("PUT", f"/{bucket}/k", payload="UNSIGNED-PAYLOAD", headers={"expect": "100-continue"})
    with signer.socket() as link:
        link.sendall((f"PUT /{bucket}/k HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "content-length: 3\r\n\r\n").encode())
        assert link.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(b"new")
        assert link.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_too_many_connections(make_server):
    server = make_server({"s3Connections": 3})
    links = [socket.create_connection(("127.0.0.1", server.s3_port), timeout=10) for _ in range(3)]
    with socket.create_connection(("127.0.0.1", server.s3_port), timeout=10) as extra:
        assert extra.recv(100).startswith(b"HTTP/1.1 503 ")
    for link in links:
        link.close()
    assert wait_until(lambda: server.s3(config=boto3.session.Config(retries={"max_attempts": 0})).list_buckets(), 10)


def test_what_was_answered_is_on_the_disk(make_server, tmp_path):
    """The volume's file is copied while the server lives: what XFS finds in the copy is what a power cut would have left."""
    server = make_server()
    client = server.s3()
    client.create_bucket(Bucket="durable")
    expected = {}
    for number in range(40):
        key = f"new/folder-{number % 7}/{number}"
        body = os.urandom(10_000 * (number + 1))
        client.put_object(Bucket="durable", Key=key, Body=body, Metadata={"n": str(number)})
        expected[key] = hashlib.md5(body).hexdigest()
    client.delete_object(Bucket="durable", Key="new/folder-0/0")
    del expected["new/folder-0/0"]
    upload = client.create_multipart_upload(Bucket="durable", Key="parts")["UploadId"]
    parts = [{"PartNumber": number, "ETag": client.upload_part(Bucket="durable", Key="parts", UploadId=upload, PartNumber=number, Body=b"p" * (5 << 20))["ETag"]} for number in (1, 2)]
    client.complete_multipart_upload(Bucket="durable", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    volume = server.volume_id("durable")
    copy, mount = tmp_path / "copy.xfs", tmp_path / "mount"
    shutil.copy(server.data / f"volumes/LOCAL-1/{volume}.xfs", copy)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    mount.mkdir()
    script = f"mount -o loop,nouuid {copy} {mount} && cd {mount}/data && find . -type f -size -9000k -exec md5sum {{}} + && stat -c %s parts"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {line.split("  ./", 1)[1]: line.split()[0] for line in done.stdout.splitlines() if "  ./" in line}
    found.pop("parts", None)
    assert found == expected and str(10 << 20) in done.stdout
    # And the killed server finds all of it again.
    server.start()
    client = server.s3()
    for key, digest in expected.items():
        assert client.head_object(Bucket="durable", Key=key)["ETag"] == f'"{digest}"'
    assert client.head_object(Bucket="durable", Key="new/folder-1/1")["Metadata"] == {"n": "1"}


def test_deleting_a_bucket_under_a_download(server):
    client = server.s3()
    client.create_bucket(Bucket="going")
    client.put_object(Bucket="going", Key="k", Body=b"x" * (30 << 20))
    body = client.get_object(Bucket="going", Key="k")["Body"]
    assert len(body.read(1000)) == 1000
    volume = server.volume_id("going")
    server.call("DELETE", f"/v1/networkvolumes/{volume}", expect=204)
    assert refused(client.get_object, Bucket="going", Key="k") == ("NoSuchBucket", 404)
    # What was promised still comes.
    assert len(body.read()) == (30 << 20) - 1000


def test_stopping_lets_requests_finish(make_server):
    server = make_server({"shutdownGraceSeconds": 20})
    client = server.s3()
    client.create_bucket(Bucket="stop")
    signer = Signer(server, server.all_key)
    headers = signer.headers("PUT", "/stop/k", payload="UNSIGNED-PAYLOAD")
    idle = signer.socket()
    with signer.socket() as link:
        link.sendall(("PUT /stop/k HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "content-length: 6\r\n\r\n").encode() + b"one")
        wait_until(lambda: server.on_volume("stop", "print(sum(len(files) for _, _, files in os.walk('../staging/put')))").strip() == "1", 10)
        server.process.send_signal(signal.SIGTERM)
        assert idle.recv(10) == b""
        link.sendall(b"two")
        assert link.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(30) == 0
    server.start()
    assert server.s3().get_object(Bucket="stop", Key="k")["Body"].read() == b"onetwo"
