"""Who may come in: signatures of every kind, whole and broken; keys and their limits; keys that are no paths; TLS."""

import base64
import datetime
import hashlib
import json
import socket
import subprocess
import time
import urllib.parse
import zlib

import boto3
import pytest
import requests
from sigv4 import Signer, code
from test_s3_objects import refused


@pytest.fixture(scope="module")
def raw(server):
    server.s3().create_bucket(Bucket="raw-requests")
    signer = Signer(server)
    assert signer.send("PUT", "/raw-requests/there", b"content")[0] == 200
    yield signer
    server.call("DELETE", f"/v1/networkvolumes/{server.volume_id('raw-requests')}", expect=204)


def test_any_region_and_unsigned_payload(raw):
    for region in ("LOCAL-1", "eu-west-1", "auto", "x"):
        assert raw.send("GET", "/raw-requests/there", region=region)[2] == b"content"
    assert raw.send("PUT", "/raw-requests/unsigned", b"body", payload="UNSIGNED-PAYLOAD")[0] == 200


@pytest.mark.parametrize("change, expected", [
    (lambda h: h.pop("authorization"), "AccessDenied"),
    (lambda h: h.update(authorization=""), "AuthorizationHeaderMalformed"),
    (lambda h: h.update(authorization="AWS key:c2ln"), "AuthorizationHeaderMalformed"),
    (lambda h: h.update(authorization="AWS4-HMAC-SHA256 nonsense"), "AuthorizationHeaderMalformed"),
    (lambda h: h.update(authorization=h["authorization"].replace("Signature=", "Signature=zz")), "AuthorizationHeaderMalformed"),
    (lambda h: h.update(authorization=h["authorization"][:-1] + ("0" if h["authorization"][-1] != "0" else "1")), "SignatureDoesNotMatch"),
    (lambda h: h.update(authorization=h["authorization"].replace("Credential=user_", "Credential=nobody_")), "InvalidAccessKeyId"),
    (lambda h: h.update(authorization=h["authorization"].replace("/s3/", "/ec2/")), "AuthorizationHeaderMalformed"),
    (lambda h: h.update(authorization=h["authorization"].replace("aws4_request", "aws5_request")), "AuthorizationHeaderMalformed"),
    (lambda h: h.update(authorization=h["authorization"].replace("us-east-1", "us-east-2")), "SignatureDoesNotMatch"),
    (lambda h: h.update(authorization=h["authorization"].replace("host;", "")), "AuthorizationHeaderMalformed"),
    (lambda h: h.update(authorization=h["authorization"].replace("SignedHeaders=", "SignedHeaders=;;")), "AuthorizationHeaderMalformed"),
    (lambda h: h.pop("x-amz-date"), "AuthorizationHeaderMalformed"),
    (lambda h: h.update({"x-amz-date": "yesterday"}), "AuthorizationHeaderMalformed"),
    (lambda h: h.pop("x-amz-content-sha256"), "SignatureDoesNotMatch"),
    (lambda h: h.update({"x-amz-content-sha256": "0" * 64}), "SignatureDoesNotMatch"),
    (lambda h: h.update({"x-amz-content-sha256": "hello"}), "InvalidArgument"),
    (lambda h: h.update({"x-amz-content-sha256": "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"}), "NotImplemented"),
    (lambda h: h.update({"x-amz-meta-unsigned": "1"}), "AccessDenied"),
    (lambda h: h.update(host="example.com"), "SignatureDoesNotMatch"),
])
def test_malformed_signatures(raw, change, expected):
    headers = raw.headers("GET", "/raw-requests/there")
    change(headers)
    status, _, body = raw.plain("GET", "/raw-requests/there", headers)
    assert (status // 100, code(body)) == (5 if expected == "NotImplemented" else 4, expected)


def test_clocks(raw):
    now = datetime.datetime.now(datetime.timezone.utc)
    for minutes, expected in ((-14, 200), (14, 200), (-16, 403), (16, 403), (-60 * 24, 403)):
        status, _, body = raw.send("GET", "/raw-requests/there", at=now + datetime.timedelta(minutes=minutes))
        assert status == expected, minutes
    assert code(body) == "RequestTimeTooSkewed"


def test_the_body_is_what_was_signed(raw):
    status, _, body = raw.send("PUT", "/raw-requests/other", b"sent", payload=hashlib.sha256(b"signed").hexdigest())
    assert (status, code(body)) == (400, "XAmzContentSHA256Mismatch")
    assert raw.send("GET", "/raw-requests/other")[0] == 404


def test_presigned(raw):
    url = raw.presign("GET", "/raw-requests/there")
    assert raw.plain("GET", url, {"host": raw.host})[2] == b"content"
    # Used again it works until it expires; that is what it is for.
    assert raw.plain("GET", url, {"host": raw.host})[0] == 200
    now = datetime.datetime.now(datetime.timezone.utc)
    cases = [(raw.presign("GET", "/raw-requests/there", expires=10, at=now - datetime.timedelta(seconds=20)), "AccessDenied"),
             (raw.presign("GET", "/raw-requests/there", at=now + datetime.timedelta(hours=1)), "AccessDenied"),
             (raw.presign("GET", "/raw-requests/there", expires=604_801), "AuthorizationQueryParametersError"),
             (raw.presign("GET", "/raw-requests/there", expires=0), "AuthorizationQueryParametersError"),
             (url.replace("there", "other"), "SignatureDoesNotMatch"), (url + "&response-content-type=text/html", "SignatureDoesNotMatch"),
             (url.replace("X-Amz-Expires=3600", "X-Amz-Expires=36000"), "SignatureDoesNotMatch"),
             (url[:-1] + ("0" if url[-1] != "0" else "1"), "SignatureDoesNotMatch"),
             (url.replace("X-Amz-Date=2", "X-Amz-Date=x"), "AuthorizationQueryParametersError"),
             (url.split("&X-Amz-Signature")[0], "AuthorizationQueryParametersError"),
             (url.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), "AuthorizationQueryParametersError")]
    for target, expected in cases:
        status, _, body = raw.plain("GET", target, {"host": raw.host})
        assert (status // 100, code(body)) == (4, expected), target
    assert code(raw.plain("PUT", url, {"host": raw.host}, b"x")[2]) == "SignatureDoesNotMatch"
    assert raw.plain("GET", raw.presign("GET", "/raw-requests/there", expires=604_800), {"host": raw.host})[0] == 200


def test_presigned_the_old_way(server, raw):
    """What boto3 makes for us-east-1 when nobody names a signature version."""
    client = server.s3((raw.access, raw.secret), region_name="us-east-1")
    for params in ({"Key": "there"}, {"Key": "there", "ResponseContentType": "a/b"}, {"Key": "a b+ü%/x"}):
        url = client.generate_presigned_url("get_object", {"Bucket": "raw-requests", **params})
        assert "AWSAccessKeyId" in url
        assert requests.get(url, timeout=10).status_code == (200 if params["Key"] == "there" else 404)
    url = client.generate_presigned_url("get_object", {"Bucket": "raw-requests", "Key": "there"})
    for broken in (url.replace("there", "other"), url.replace("Expires=1", "Expires=2"), url + "&response-content-type=a/b", url.replace("Signature=", "Signature=A"),
                   url.replace("AWSAccessKeyId=user", "AWSAccessKeyId=nobody"), url.split("&Expires")[0]):
        assert requests.get(broken, timeout=10).status_code in (400, 403), broken
    expired = client.generate_presigned_url("get_object", {"Bucket": "raw-requests", "Key": "there"}, ExpiresIn=-5)
    assert requests.get(expired, timeout=10).status_code == 403
    put = client.generate_presigned_url("put_object", {"Bucket": "raw-requests", "Key": "old/way"})
    assert requests.put(put, b"v2", timeout=10).status_code == 200
    assert requests.get(put, timeout=10).status_code == 403
    assert raw.send("GET", "/raw-requests/old/way")[2] == b"v2"


def chunked(raw, key, pieces, mode="STREAMING-AWS4-HMAC-SHA256-PAYLOAD", trailers=None, length=None, change=lambda body: body):
    names = {"x-amz-trailer": ",".join(trailers)} if trailers is not None else {}
    length = sum(map(len, pieces)) if length is None else length
    headers = raw.headers("PUT", f"/raw-requests/{key}", payload=mode,
                          headers={"x-amz-decoded-content-length": str(length), "content-encoding": "aws-chunked", **names})
    if "UNSIGNED" in mode:
        body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces) + b"0\r\n"
        body += "".join(f"{name}:{value}\r\n" for name, value in (trailers or {}).items()).encode() + b"\r\n"
    else:
        body = raw.chunks(pieces, trailers)
    return raw.plain("PUT", f"/raw-requests/{key}", headers, change(body))


def crc32(body):
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def test_streaming_modes(raw):
    pieces = [b"a" * 70_000, b"b" * 65_536, b"c"]
    whole = b"".join(pieces)
    good = {"x-amz-checksum-crc32": crc32(whole)}
    for mode, trailers in (("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", None), ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", good),
                           ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", good)):
        status, headers, body = chunked(raw, "stream", pieces, mode, trailers)
        assert status == 200, body
        got = raw.send("GET", "/raw-requests/stream")
        assert got[2] == whole and "Content-Encoding" not in got[1]
    bad = {"x-amz-checksum-crc32": crc32(b"else")}
    cases = [(dict(mode="STREAMING-UNSIGNED-PAYLOAD-TRAILER", trailers=bad), "BadDigest"),
             (dict(mode="STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", trailers=bad), "BadDigest"),
             (dict(mode="STREAMING-UNSIGNED-PAYLOAD-TRAILER", trailers=good, change=lambda b: b.replace(b"x-amz-checksum", b"x-amz-chequesum")), "InvalidRequest"),
             (dict(mode="STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", trailers=good, change=lambda b: b.replace(b"trailer-signature:", b"trailer-signature:0")), "SignatureDoesNotMatch"),
             (dict(change=lambda b: b.replace(b"aaaa", b"aaab", 1)), "SignatureDoesNotMatch"),
             (dict(change=lambda b: b.replace(b"chunk-signature=", b"chunk-sig=", 1)), "InvalidRequest"),
             (dict(change=lambda b: b.replace(b"11170;", b"-1;", 1)), "InvalidRequest"),
             (dict(change=lambda b: b.replace(b"11170;", b"fffffffff;", 1)), "InvalidRequest"),
             (dict(change=lambda b: b[:-100]), "IncompleteBody"), (dict(length=len(whole) - 1), "IncompleteBody"),
             (dict(length=len(whole) + 1), "IncompleteBody")]
    for arguments, expected in cases:
        status, _, body = chunked(raw, "stream", pieces, **arguments)
        assert (status, code(body)) in ((400, expected), (403, expected)), arguments
    assert raw.send("GET", "/raw-requests/stream")[2] == whole


def test_chunk_framing_split_at_every_byte(raw):
    """Over the socket: the body comes in two pieces, cut everywhere."""
    pieces = [b"hello", b"chunks"]
    for cut in range(0, 400, 7):
        headers = raw.headers("PUT", "/raw-requests/split", payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
                              headers={"x-amz-decoded-content-length": "11"})
        body = raw.chunks(pieces)
        head = "PUT /raw-requests/split HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) \
            + f"content-length: {len(body)}\r\n\r\n"
        with raw.socket() as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.sendall(head.encode() + body[:cut])
            link.sendall(body[cut:])
            assert link.recv(100).startswith(b"HTTP/1.1 200")


def test_http_chunked_upload(raw):
    headers = raw.headers("PUT", "/raw-requests/chunked", payload="UNSIGNED-PAYLOAD")
    def send(body):
        return raw.plain("PUT", "/raw-requests/chunked", {**headers, "transfer-encoding": "chunked"}, body)
    assert send(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")[0] == 200
    assert raw.send("GET", "/raw-requests/chunked")[2] == b"hello!"
    for broken in (b"5\r\nhelloX\r\n0\r\n\r\n", b"zz\r\n", b"5\nhello\n0\n\n", b"-5\r\nhello\r\n0\r\n\r\n", b"fffffffffffffffff\r\nx\r\n0\r\n\r\n"):
        assert send(broken)[0] == 400
    assert raw.send("GET", "/raw-requests/chunked")[2] == b"hello!"


@pytest.mark.parametrize("path, expected", [
    ("a/../b", 400), ("../raw-requests/there", 400), ("a//b", 400), ("/lead", 400), ("./a", 400), ("a/.", 400), ("..", 400),
    ("%2e%2e/there", 400), ("a%2f..%2fb", 400), ("nul%00l", 400), ("%ff%fe", 400), ("%C0%AE%C0%AE/x", 400), ("a%", 400), ("a%2", 400), ("a%zz", 400),
    ("x" * 256, 400), ("/".join(["x" * 100] * 11), 400), ("x" * 255, 200), ("/".join(["y" * 127] * 8), 200), ("%25", 200), ("%2525", 200),
    ("a%20b%2Bc", 200), ("%E2%82%AC", 200), ("control%0A%0Dx", 200), ("...", 200), ("a/...b", 200),
])
def test_hostile_keys(raw, path, expected):
    target = "/raw-requests/" + path
    canonical = urllib.parse.quote(urllib.parse.unquote_to_bytes(target), safe="/-._~")
    status, _, body = raw.send("PUT", target, b"key", canonical_path=canonical)
    assert status == expected, body
    if status == 200:
        assert raw.send("GET", target)[2] == b"key"
        assert raw.send("DELETE", target)[0] == 204
    assert raw.send("GET", "/raw-requests/there")[2] == b"content"


def test_percent_traps_are_decoded_once(server, s3, raw):
    assert raw.send("PUT", "/raw-requests/trap%252F..%252Fx", b"1")[0] == 200
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="raw-requests", Prefix="trap")["Contents"]]
    assert keys == ["trap%2F..%2Fx"]


@pytest.mark.parametrize("document, expected", [
    (b"", "MalformedXML"), (b"<Delete>", "MalformedXML"), (b"<Delete><Object></Delete></Object>", "MalformedXML"), (b"\xff\xfe", "MalformedXML"),
    (b"<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><Delete><Object><Key>&b;</Key></Object></Delete>", "MalformedXML"),
    (b"<!DOCTYPE x SYSTEM 'file:///etc/passwd'><Delete/>", "MalformedXML"), (b"<Delete><Object><Key>&xxe;</Key></Object></Delete>", "MalformedXML"),
    (b"<x>" * 100_000, "MalformedXML"), (b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>", "MalformedXML"),
    (b"<Delete>" + b"x" * (5 << 20) + b"</Delete>", "EntityTooLarge"), (b"<Other/>", "MalformedXML"), (b"<Delete></Delete>", "MalformedXML"),
    (b"<Delete><Object><Key>&#0;</Key></Object></Delete>", "MalformedXML"), (b"<Delete>" + b"&amp;" * 500_000, "MalformedXML"),
])
def test_broken_and_hostile_xml(raw, document, expected):
    begin = time.monotonic()
    status, _, body = raw.send("POST", "/raw-requests", document, query="delete=")
    assert (status, code(body)) == (400, expected)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("head", [
    b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", b"GET /\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET x HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"GET / HTTP/1.1\nHost: x\n\r\n\r\n", b"G\x00T / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff\xff / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"PUT /b/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 300 + b"\r\n", b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
])
def test_malformed_heads(raw, head):
    with raw.socket() as link:
        link.sendall(head)
        answer = link.recv(65536)
        assert answer.startswith(b"HTTP/1.1 400 ") or answer.startswith(b"HTTP/1.1 403 "), answer
    assert raw.send("GET", "/raw-requests/there")[2] == b"content"


def test_keys_are_limited(server, s3, raw):
    s3.put_object(Bucket="raw-requests", Key="public/a", Body=b"1")
    volume = server.volume_id("raw-requests")
    reader = server.s3(server.s3_key(name="r", readOnly=True))
    assert reader.get_object(Bucket="raw-requests", Key="public/a")["Body"].read() == b"1"
    for write in (lambda: reader.put_object(Bucket="raw-requests", Key="w", Body=b"1"), lambda: reader.delete_object(Bucket="raw-requests", Key="public/a"),
                  lambda: reader.create_multipart_upload(Bucket="raw-requests", Key="w"), lambda: reader.create_bucket(Bucket="new-one"),
                  lambda: reader.copy_object(Bucket="raw-requests", Key="w", CopySource="raw-requests/there"),
                  lambda: reader.put_object_tagging(Bucket="raw-requests", Key="there", Tagging={"TagSet": []})):
        assert refused(write)[0] == "AccessDenied"
    deleted = reader.delete_objects(Bucket="raw-requests", Delete={"Objects": [{"Key": "public/a"}]})
    assert deleted["Errors"][0]["Code"] == "AccessDenied"
    scoped = server.s3(server.s3_key(name="p", prefixes=["public/"], volumeIds=["raw-requests"]))
    assert scoped.get_object(Bucket="raw-requests", Key="public/a")["Body"].read() == b"1"
    assert [item["Key"] for item in scoped.list_objects_v2(Bucket="raw-requests", Prefix="public/")["Contents"]] == ["public/a"]
    scoped.put_object(Bucket="raw-requests", Key="public/b", Body=b"2")
    for outside in (lambda: scoped.get_object(Bucket="raw-requests", Key="there"), lambda: scoped.list_objects_v2(Bucket="raw-requests"),
                    lambda: scoped.put_object(Bucket="raw-requests", Key="publicity", Body=b""), lambda: scoped.get_object(Bucket="raw-requests", Key="public/../there"),
                    lambda: scoped.copy_object(Bucket="raw-requests", Key="public/c", CopySource="raw-requests/there"),
                    lambda: scoped.delete_bucket(Bucket="raw-requests"), lambda: scoped.head_bucket(Bucket="another-volume")):
        assert refused(outside)[1] in (400, 403)
    elsewhere = server.s3(server.s3_key(name="v", volumeIds=[server.post("/v1/networkvolumes", {"name": "apart", "size": 1, "dataCenterId": "LOCAL-1"})["id"]]))
    assert [item["Name"] for item in elsewhere.list_buckets()["Buckets"]] == [server.volume_id("apart")]
    assert refused(elsewhere.get_object, Bucket="raw-requests", Key="there") == ("AccessDenied", 403)
    assert refused(elsewhere.get_object, Bucket=volume, Key="there") == ("AccessDenied", 403)
    server.call("DELETE", f"/v1/networkvolumes/{server.volume_id('apart')}", expect=204)


def test_keys_come_expire_and_go(server):
    made = server.post("/v1/s3keys", {"name": "short", "expiresInSeconds": 1})
    assert made["accessKeyId"].startswith("user_") and made["secretAccessKey"].startswith("rps_")
    shown = server.get(f"/v1/s3keys/{made['accessKeyId']}")
    assert "secretAccessKey" not in shown and "sealedSecret" not in shown and shown["expiresAt"]
    client = server.s3((made["accessKeyId"], made["secretAccessKey"]), config=boto3.session.Config(retries={"max_attempts": 0}))
    end = time.monotonic() + 10
    while True:
        try:
            client.list_buckets()
        except client.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "AccessDenied"
            break
        assert time.monotonic() < end
    server.call("DELETE", f"/v1/s3keys/{made['accessKeyId']}", expect=204)
    assert refused(client.list_buckets)[0] == "InvalidAccessKeyId"
    # The secret is nowhere in clear.
    secret = made["secretAccessKey"].encode()
    for path in [server.data / "roost.sqlite", server.data / "roost.sqlite-wal", server.log]:
        assert secret not in path.read_bytes()
    assert (server.data / "secret.keys").stat().st_mode & 0o077 == 0
    server.call("POST", "/v1/s3keys", json={"volumeIds": ["nope"]}, expect=400)
    server.call("POST", "/v1/s3keys", json={"readOnly": True, "manageBuckets": True}, expect=400)
    listed = json.loads(server.cli("s3key", "list", "--json").stdout)
    assert all("secretAccessKey" not in key for key in listed)
    out = server.cli("s3key", "create", "name=cli", "readOnly=true").stdout
    assert "export AWS_ACCESS_KEY_ID=user_" in out and "export AWS_SECRET_ACCESS_KEY=rps_" in out


def test_tls(make_server, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = make_server({"s3TlsCert": str(certificate), "s3TlsKey": str(key)})
    assert server.scheme == "https"
    client = server.s3(verify=str(certificate))
    client.create_bucket(Bucket="secure")
    seen = []
    client.meta.events.register("before-send.s3.PutObject", lambda request, **_: seen.append(request.headers.get("X-Amz-Content-SHA256")))
    body = b"secret " * 300_000
    client.put_object(Bucket="secure", Key="k", Body=body)
    # Over https boto3 frames the body and sends its checksum behind it.
    assert seen[0] in (b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert client.get_object(Bucket="secure", Key="k", ChecksumMode="ENABLED")["Body"].read() == body
    source = tmp_path / "source"
    source.write_bytes(body * 12)
    server.aws("s3", "cp", str(source), "s3://secure/cli", "--no-progress", env={"AWS_CA_BUNDLE": str(certificate)})
    server.aws("s3", "cp", "s3://secure/cli", str(tmp_path / "back"), "--no-progress", env={"AWS_CA_BUNDLE": str(certificate)})
    assert (tmp_path / "back").read_bytes() == body * 12
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(f"http://127.0.0.1:{server.s3_port}/", timeout=5)
    broken = make_server
    with pytest.raises(AssertionError, match="certificate"):
        broken({"s3TlsCert": str(key), "s3TlsKey": str(key)})


def test_presigned_by_the_cli_and_curl(server, raw, tmp_path):
    url = server.aws("s3", "presign", "s3://raw-requests/there", "--expires-in", "60").strip()
    assert subprocess.run(["curl", "-sf", url], capture_output=True).stdout == b"content"
    access, secret = server.all_key
    target = f"{server.s3_url}/raw-requests/by-curl"
    (tmp_path / "body").write_bytes(b"from curl")
    curl = ["curl", "-sf", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{access}:{secret}"]
    done = subprocess.run([*curl, "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-T", tmp_path / "body", target], capture_output=True)
    assert done.returncode == 0, done
    assert subprocess.run([*curl, target], capture_output=True).stdout == b"from curl"
    assert raw.send("GET", "/raw-requests/by-curl")[2] == b"from curl"


def test_head_requests_have_no_body(raw):
    status, headers, body = raw.send("HEAD", "/raw-requests/nope")
    assert status == 404 and body == b""
    status, headers, body = raw.send("HEAD", "/raw-requests/there")
    assert status == 200 and headers["Content-Length"] == "7" and body == b""
