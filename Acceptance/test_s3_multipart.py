"""Uploads in parts: complete, repeated, aborted, abandoned; parts copied inside the server; checksums of the whole."""

import base64
import concurrent.futures
import hashlib
import os
import zlib

import boto3
import pytest
from conftest import wait_until
from test_s3_objects import refused

MIB = 1 << 20


def upload_parts(s3, bucket, key, bodies, **kwargs):
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **kwargs)["UploadId"]
    parts = []
    for number, body in enumerate(bodies, 1):
        done = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": done["ETag"], **{name: value for name, value in done.items() if name.startswith("Checksum") and name != "ChecksumType"}})
    return upload, parts


def complete(s3, bucket, key, upload, parts, **kwargs):
    return s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **kwargs)


@pytest.mark.parametrize("sizes", [[30_000], [5 * MIB, 5 * MIB, 123], [5 * MIB + 1, 5 * MIB + 7, 1], [4096, 4096, 4096]])
def test_the_parts_become_the_object(server, s3, bucket, sizes):
    bodies = [os.urandom(size) for size in sizes]
    upload, parts = upload_parts(s3, bucket, "p/q", bodies, Metadata={"k": "v"}, ContentType="x/y", Tagging="t=1")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    done = complete(s3, bucket, "p/q", upload, parts)
    expected = hashlib.md5(b"".join(hashlib.md5(body).digest() for body in bodies)).hexdigest() + f"-{len(bodies)}"
    got = s3.get_object(Bucket=bucket, Key="p/q")
    assert got["Body"].read() == b"".join(bodies)
    assert done["ETag"] == got["ETag"] == f'"{expected}"' and got["Metadata"] == {"k": "v"} and got["ContentType"] == "x/y" and got["TagCount"] == 1
    part = s3.get_object(Bucket=bucket, Key="p/q", PartNumber=len(sizes))
    assert part["Body"].read() == bodies[-1] and part["PartsCount"] == len(sizes)
    assert s3.get_object_attributes(Bucket=bucket, Key="p/q", ObjectAttributes=["ObjectParts"])["ObjectParts"]["TotalPartsCount"] == len(sizes)
    # Repeated, it gives the same answer; nothing of the upload is left.
    assert complete(s3, bucket, "p/q", upload, parts)["ETag"] == done["ETag"]
    volume = server.get(f"/v1/networkvolumes/{server.volume_id(bucket)}")
    assert volume["uploads"] == {"count": 0, "bytes": 0}
    s3.put_object(Bucket=bucket, Key="p/q", Body=b"other")
    assert refused(s3.complete_multipart_upload, Bucket=bucket, Key="p/q", UploadId=upload, MultipartUpload={"Parts": parts}) == ("NoSuchUpload", 404)


def test_parts_in_any_order_again_and_left_out(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etags = {}
    for number, body in ((7, b"seven"), (2, b"wrong"), (2, b"two"), (5, b"five")):
        etags[number] = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body)["ETag"]
    listed = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, MaxParts=2)
    assert [part["PartNumber"] for part in listed["Parts"]] == [2, 5] and listed["IsTruncated"]
    rest = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, PartNumberMarker=listed["NextPartNumberMarker"])
    assert [(part["PartNumber"], part["Size"]) for part in rest["Parts"]] == [(7, 5)]
    complete(s3, bucket, "k", upload, [{"PartNumber": number, "ETag": etags[number]} for number in (2, 7)])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"twoseven"


def test_bad_completions(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    upload, parts = upload_parts(s3, bucket, "k", [b"1", b"2"])
    one, two = parts
    bad = {"InvalidPartOrder": [two, one], "InvalidPart": [{"PartNumber": 1, "ETag": '"' + "0" * 32 + '"'}],
           "MalformedXML": [{"PartNumber": n, "ETag": "x"} for n in range(1, 10_002)]}
    for code, listed in bad.items():
        assert refused(s3.complete_multipart_upload, Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": listed})[0] == code
    assert refused(s3.complete_multipart_upload, Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": [one, {"PartNumber": 3, "ETag": "x"}]})[0] == "InvalidPart"
    for number in (0, 10_001):
        assert refused(s3.upload_part, Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=b"x") == ("InvalidArgument", 400)
    for identifier in ("nope", "../../put", "0" * 36):
        assert refused(s3.upload_part, Bucket=bucket, Key="k", UploadId=identifier, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)
    assert refused(s3.upload_part, Bucket=bucket, Key="another", UploadId=upload, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)
    assert refused(s3.complete_multipart_upload, Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"
    # After all that it can still be completed.
    complete(s3, bucket, "k", upload, parts)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"12"


def test_eight_at_once_complete_the_same_upload(server, bucket):
    client = server.s3(config=boto3.session.Config(retries={"max_attempts": 0}, max_pool_connections=8))
    upload, parts = upload_parts(client, bucket, "k", [b"a" * 5 * MIB, b"b"])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        etags = {done["ETag"] for done in pool.map(lambda _: complete(client, bucket, "k", upload, parts), range(8))}
    assert len(etags) == 1 and client.head_object(Bucket=bucket, Key="k")["ContentLength"] == 5 * MIB + 1


def test_abort_and_list_uploads(server, s3, bucket):
    uploads = [(key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in ("b/2", "a", "b/1", "b/1")]
    s3.upload_part(Bucket=bucket, Key="a", UploadId=uploads[1][1], PartNumber=1, Body=b"x" * 1000)
    listed = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [item["Key"] for item in listed] == ["a", "b/1", "b/1", "b/2"]
    page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=2)
    rest = s3.list_multipart_uploads(Bucket=bucket, KeyMarker=page["NextKeyMarker"], UploadIdMarker=page["NextUploadIdMarker"])
    assert {item["UploadId"] for item in page["Uploads"] + rest["Uploads"]} == {upload for _, upload in uploads} and not rest["IsTruncated"]
    grouped = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [item["Prefix"] for item in grouped["CommonPrefixes"]] == ["b/"] and len(grouped["Uploads"]) == 1
    assert server.get(f"/v1/networkvolumes/{server.volume_id(bucket)}")["uploads"] == {"count": 4, "bytes": 1000}
    for key, upload in uploads:
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        assert refused(s3.list_parts, Bucket=bucket, Key=key, UploadId=upload) == ("NoSuchUpload", 404)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_checksums_of_parts_and_whole(s3, bucket):
    bodies = [os.urandom(5 * MIB), os.urandom(777)]
    upload, parts = upload_parts(s3, bucket, "composite", bodies, ChecksumAlgorithm="CRC32")
    done = complete(s3, bucket, "composite", upload, parts)
    each = b"".join(zlib.crc32(body).to_bytes(4, "big") for body in bodies)
    assert done["ChecksumCRC32"] == base64.b64encode(zlib.crc32(each).to_bytes(4, "big")).decode() + "-2"
    upload, parts = upload_parts(s3, bucket, "full", bodies, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    whole = base64.b64encode(zlib.crc32(b"".join(bodies)).to_bytes(4, "big")).decode()
    assert refused(s3.complete_multipart_upload, Bucket=bucket, Key="full", UploadId=upload, MultipartUpload={"Parts": parts}, ChecksumCRC32="AAAAAA==") == ("BadDigest", 400)
    assert complete(s3, bucket, "full", upload, parts, ChecksumCRC32=whole)["ChecksumCRC32"] == whole
    assert s3.get_object(Bucket=bucket, Key="full", ChecksumMode="ENABLED")["Body"].read() == b"".join(bodies)


def test_parts_copied_inside_the_server(s3, bucket):
    body = os.urandom(20 * MIB + 5)
    s3.upload_fileobj(__import__("io").BytesIO(body), bucket, "source")
    s3.copy({"Bucket": bucket, "Key": "source"}, bucket, "target")
    assert s3.get_object(Bucket=bucket, Key="target")["Body"].read() == body
    upload = s3.create_multipart_upload(Bucket=bucket, Key="odd")["UploadId"]
    parts = []
    for number, span in enumerate(((1, 5_000_000), (7, 7), (5_000_001, 5_000_100)), 1):
        done = s3.upload_part_copy(Bucket=bucket, Key="odd", UploadId=upload, PartNumber=number, CopySource={"Bucket": bucket, "Key": "source"}, CopySourceRange=f"bytes={span[0]}-{span[1]}")
        parts.append({"PartNumber": number, "ETag": done["CopyPartResult"]["ETag"]})
    complete(s3, bucket, "odd", upload, parts)
    assert s3.get_object(Bucket=bucket, Key="odd")["Body"].read() == body[1:5_000_001] + body[7:8] + body[5_000_001:5_000_101]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="odd")["UploadId"]
    for span, code in (("bytes=0-99999999", "InvalidRange"), ("bytes=5-2", "InvalidArgument"), ("bytes=5-", "InvalidArgument"), ("5-6", "InvalidArgument")):
        assert refused(s3.upload_part_copy, Bucket=bucket, Key="odd", UploadId=upload, PartNumber=1, CopySource=f"{bucket}/source", CopySourceRange=span)[0] == code


def test_completion_shares_blocks(server, s3):
    s3.create_bucket(Bucket="shares")
    try:
        upload, parts = upload_parts(s3, "shares", "big", [b"x" * 64 * MIB] * 6)
        before = server.get(f"/v1/networkvolumes/{server.volume_id('shares')}")["usedBytes"]
        complete(s3, "shares", "big", upload, parts)
        after = server.get(f"/v1/networkvolumes/{server.volume_id('shares')}")["usedBytes"]
        # Copied, 384 MiB would not fit beside 384 MiB of parts on a volume of 1 GiB without a trace.
        assert abs(after - before) < 20 * MIB
        s3.copy({"Bucket": "shares", "Key": "big"}, "shares", "again")
        s3.copy({"Bucket": "shares", "Key": "big"}, "shares", "and-again")
        assert abs(server.get(f"/v1/networkvolumes/{server.volume_id('shares')}")["usedBytes"] - before) < 20 * MIB
    finally:
        server.call("DELETE", f"/v1/networkvolumes/{server.volume_id('shares')}", expect=204)


def test_abandoned_uploads_are_swept(make_server):
    server = make_server({"abandonedUploadSeconds": 60})
    client = server.s3()
    client.create_bucket(Bucket="swept")
    upload, _ = upload_parts(client, "swept", "k", [b"x" * 1000])
    fresh = client.create_multipart_upload(Bucket="swept", Key="fresh")["UploadId"]
    server.on_volume("swept", f"os.utime('../staging/upload/{upload}', (1, 1)); os.makedirs('../staging/put/0', exist_ok=True); open('../staging/put/0/left', 'w').write('x')")
    wait_until(lambda: [item["UploadId"] for item in client.list_multipart_uploads(Bucket="swept").get("Uploads", [])] == [fresh], 40)
    # What a crash left staged goes at the next start.
    server.kill()
    server.start()
    assert server.on_volume("swept", "print(os.path.exists('../staging/put/0/left'))").strip() == "False"
    assert [item["UploadId"] for item in server.s3().list_multipart_uploads(Bucket="swept")["Uploads"]] == [fresh]
