"""Objects through the S3 door, by boto3: read, write, conditions, copies, tags, and what a bucket says of itself."""

import concurrent.futures
import hashlib
import io

import boto3
import botocore.exceptions
import pytest
import requests


def refused(function, **kwargs):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        function(**kwargs)
    return caught.value.response["Error"]["Code"], caught.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_put_get_head_delete(s3, bucket):
    body = b"hello roost" * 1000
    etag = s3.put_object(Bucket=bucket, Key="a/b/c.txt", Body=body, ContentType="text/plain", CacheControl="no-store",
                         ContentDisposition="inline", ContentLanguage="de", Metadata={"Author": "Ada", "umlaut": "gr=n"})["ETag"]
    assert etag == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="a/b/c.txt")
    assert got["Body"].read() == body and got["ETag"] == etag and got["ContentType"] == "text/plain"
    assert got["Metadata"] == {"author": "Ada", "umlaut": "gr=n"} and got["CacheControl"] == "no-store"
    assert got["ContentLanguage"] == "de" and got["ContentDisposition"] == "inline" and got["AcceptRanges"] == "bytes"
    head = s3.head_object(Bucket=bucket, Key="a/b/c.txt")
    assert head["ContentLength"] == len(body) and head["LastModified"] == got["LastModified"]
    s3.delete_object(Bucket=bucket, Key="a/b/c.txt")
    assert refused(s3.get_object, Bucket=bucket, Key="a/b/c.txt") == ("NoSuchKey", 404)
    s3.delete_object(Bucket=bucket, Key="a/b/c.txt")
    # The folders that came with the key went with it.
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_empty_object_and_overwrite(s3, bucket):
    s3.put_object(Bucket=bucket, Key="x", Body=b"")
    assert s3.get_object(Bucket=bucket, Key="x")["Body"].read() == b""
    s3.put_object(Bucket=bucket, Key="x", Body=b"more")
    assert s3.get_object(Bucket=bucket, Key="x")["Body"].read() == b"more"


@pytest.mark.parametrize("given, expected, status", [
    ("bytes=0-4", (0, 5), 206), ("bytes=5-", (5, 26), 206), ("bytes=-3", (23, 26), 206), ("bytes=20-999", (20, 26), 206),
    ("bytes=-999", (0, 26), 206), ("bytes=26-", None, 416), ("bytes=-0", None, 416), ("bytes=999-1000", None, 416),
    ("bytes=5-2", (0, 26), 200), ("bytes=0-1,4-5", (0, 26), 200), ("bytes=0-9,5-12", (0, 26), 200), ("bytes=--5", (0, 26), 200), ("bytes=-", (0, 26), 200),
    ("items=0-4", (0, 26), 200), ("bytes=a-b", (0, 26), 200), ("bytes=99999999999999999999-", (0, 26), 200),
])
def test_ranges(s3, bucket, given, expected, status):
    body = b"abcdefghijklmnopqrstuvwxyz"
    s3.put_object(Bucket=bucket, Key="r", Body=body)
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "r"})
    answer = requests.get(url, headers={"Range": given}, timeout=10)
    assert answer.status_code == status, answer.text
    if expected:
        assert answer.content == body[slice(*expected)]
    if status == 206:
        assert answer.headers["Content-Range"] == f"bytes {expected[0]}-{expected[1] - 1}/26"


def test_conditional_reads(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="c", Body=b"1")["ETag"]
    when = s3.head_object(Bucket=bucket, Key="c")["LastModified"]
    assert s3.get_object(Bucket=bucket, Key="c", IfMatch=etag)["ETag"] == etag
    assert refused(s3.get_object, Bucket=bucket, Key="c", IfMatch='"other"') == ("PreconditionFailed", 412)
    assert refused(s3.get_object, Bucket=bucket, Key="c", IfNoneMatch=etag)[1] == 304
    assert refused(s3.get_object, Bucket=bucket, Key="c", IfModifiedSince=when)[1] == 304
    assert refused(s3.head_object, Bucket=bucket, Key="c", IfUnmodifiedSince=when.replace(year=2000))[1] == 412
    assert s3.get_object(Bucket=bucket, Key="c", IfUnmodifiedSince=when)["ETag"] == etag


def test_conditional_writes(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="w", Body=b"1", IfNoneMatch="*")["ETag"]
    assert refused(s3.put_object, Bucket=bucket, Key="w", Body=b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert refused(s3.put_object, Bucket=bucket, Key="w", Body=b"2", IfMatch='"no"') == ("PreconditionFailed", 412)
    assert refused(s3.put_object, Bucket=bucket, Key="none", Body=b"2", IfMatch=etag) == ("NoSuchKey", 404)
    s3.put_object(Bucket=bucket, Key="w", Body=b"3", IfMatch=etag)
    assert refused(s3.delete_object, Bucket=bucket, Key="w", IfMatch=etag) == ("PreconditionFailed", 412)
    assert s3.get_object(Bucket=bucket, Key="w")["Body"].read() == b"3"


def test_of_32_racing_writers_exactly_one_wins(server, bucket):
    config = boto3.session.Config(max_pool_connections=32, retries={"max_attempts": 0})
    client = server.s3(config=config)
    for round_ in range(5):
        key = f"race/{round_}"

        def write(number):
            try:
                client.put_object(Bucket=bucket, Key=key, Body=str(number).encode(), IfNoneMatch="*")
                return number
            except botocore.exceptions.ClientError as error:
                assert error.response["Error"]["Code"] == "PreconditionFailed"
                return None

        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            winners = [number for number in pool.map(write, range(32)) if number is not None]
        assert len(winners) == 1
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == str(winners[0]).encode()


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_checksums_are_stored_and_returned(s3, bucket, algorithm):
    put = s3.put_object(Bucket=bucket, Key="sum", Body=b"checked", ChecksumAlgorithm=algorithm)
    head = s3.head_object(Bucket=bucket, Key="sum", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]
    assert s3.get_object(Bucket=bucket, Key="sum", ChecksumMode="ENABLED")["Body"].read() == b"checked"
    attributes = s3.get_object_attributes(Bucket=bucket, Key="sum", ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass"])
    assert attributes["Checksum"][f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"] and attributes["ObjectSize"] == 7


def test_bad_digests_leave_the_old_object(s3, bucket):
    s3.put_object(Bucket=bucket, Key="d", Body=b"old")
    assert refused(s3.put_object, Bucket=bucket, Key="d", Body=b"new", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==") == ("BadDigest", 400)
    assert refused(s3.put_object, Bucket=bucket, Key="d", Body=b"new", ContentMD5="zz") == ("InvalidDigest", 400)
    assert refused(s3.put_object, Bucket=bucket, Key="d", Body=b"new", ChecksumCRC32="AAAAAA==") == ("BadDigest", 400)
    assert refused(s3.put_object, Bucket=bucket, Key="d", Body=b"new", ChecksumCRC32="AAAA") == ("InvalidRequest", 400)
    assert s3.get_object(Bucket=bucket, Key="d")["Body"].read() == b"old"


def test_copies(s3, bucket):
    s3.put_object(Bucket=bucket, Key="src ü+%", Body=b"copied", ContentType="text/x", Metadata={"k": "v"}, Tagging="a=1&b=2")
    copied = s3.copy_object(Bucket=bucket, Key="dst", CopySource={"Bucket": bucket, "Key": "src ü+%"})
    got = s3.get_object(Bucket=bucket, Key="dst")
    assert got["Body"].read() == b"copied" and got["Metadata"] == {"k": "v"} and got["ContentType"] == "text/x"
    assert copied["CopyObjectResult"]["ETag"] == got["ETag"] == f'"{hashlib.md5(b"copied").hexdigest()}"'
    assert len(s3.get_object_tagging(Bucket=bucket, Key="dst")["TagSet"]) == 2
    s3.copy_object(Bucket=bucket, Key="dst", CopySource=f"{bucket}/dst", MetadataDirective="REPLACE", Metadata={"n": "w"}, ContentType="x/y")
    assert s3.head_object(Bucket=bucket, Key="dst")["Metadata"] == {"n": "w"}
    assert refused(s3.copy_object, Bucket=bucket, Key="dst", CopySource=f"{bucket}/dst") == ("InvalidRequest", 400)
    assert refused(s3.copy_object, Bucket=bucket, Key="n", CopySource=f"{bucket}/none")[0] == "NoSuchKey"
    assert refused(s3.copy_object, Bucket=bucket, Key="n", CopySource=f"{bucket}/dst", CopySourceIfMatch='"x"') == ("PreconditionFailed", 412)
    assert refused(s3.copy_object, Bucket=bucket, Key="n", CopySource=f"{bucket}/../dst")[1] == 400
    assert refused(s3.copy_object, Bucket=bucket, Key="dst", CopySource={"Bucket": bucket, "Key": "src ü+%"}, IfNoneMatch="*") == ("PreconditionFailed", 412)


def test_copy_between_buckets(server, s3, bucket):
    s3.create_bucket(Bucket=bucket + "-two")
    try:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000)
        s3.copy_object(Bucket=bucket + "-two", Key="k2", CopySource=f"{bucket}/k")
        assert s3.get_object(Bucket=bucket + "-two", Key="k2")["Body"].read() == b"x" * 100_000
        s3.delete_object(Bucket=bucket + "-two", Key="k2")
    finally:
        s3.delete_bucket(Bucket=bucket + "-two")


def test_delete_objects(s3, bucket):
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"many/{number}", Body=b"1")
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"many/{n}"} for n in range(4)] + [{"Key": "a/../b"}, {"Key": "not there"}]})
    assert len(done["Deleted"]) == 5 and done["Errors"][0]["Code"] == "InvalidArgument"
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["many/4"]
    assert "Deleted" not in s3.delete_objects(Bucket=bucket, Delete={"Quiet": True, "Objects": [{"Key": "many/4"}]})


def test_tags(s3, bucket):
    s3.put_object(Bucket=bucket, Key="t", Body=b"1", Tagging="team=a%20b")
    assert s3.get_object_tagging(Bucket=bucket, Key="t")["TagSet"] == [{"Key": "team", "Value": "a b"}]
    assert s3.head_object(Bucket=bucket, Key="t")["TagCount"] == 1
    etag = s3.head_object(Bucket=bucket, Key="t")["ETag"]
    s3.put_object_tagging(Bucket=bucket, Key="t", Tagging={"TagSet": [{"Key": "x", "Value": "<&>"}]})
    assert s3.get_object_tagging(Bucket=bucket, Key="t")["TagSet"] == [{"Key": "x", "Value": "<&>"}]
    s3.delete_object_tagging(Bucket=bucket, Key="t")
    assert s3.get_object_tagging(Bucket=bucket, Key="t")["TagSet"] == [] and s3.head_object(Bucket=bucket, Key="t")["ETag"] == etag
    many = {"TagSet": [{"Key": str(n), "Value": ""} for n in range(11)]}
    assert refused(s3.put_object_tagging, Bucket=bucket, Key="t", Tagging=many) == ("InvalidTag", 400)
    assert refused(s3.put_object_tagging, Bucket=bucket, Key="none", Tagging={"TagSet": []}) == ("NoSuchKey", 404)


def test_response_overrides_and_metadata_limit(s3, bucket):
    s3.put_object(Bucket=bucket, Key="o", Body=b"1", ContentType="a/b")
    got = s3.get_object(Bucket=bucket, Key="o", ResponseContentType="c/d", ResponseContentDisposition='attachment; filename="x"')
    assert got["ContentType"] == "c/d" and got["ContentDisposition"] == 'attachment; filename="x"'
    assert refused(s3.put_object, Bucket=bucket, Key="m", Body=b"1", Metadata={"k": "v" * 2100}) == ("MetadataTooLarge", 400)
    s3.put_object(Bucket=bucket, Key="m", Body=b"1", Metadata={"k": "v" * 2000})
    assert s3.head_object(Bucket=bucket, Key="m")["Metadata"]["k"] == "v" * 2000


def test_what_is_not_served_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="n", Body=b"1")
    assert refused(s3.put_object, Bucket=bucket, Key="n", Body=b"2", ACL="public-read") == ("AccessControlListNotSupported", 400)
    assert refused(s3.put_object, Bucket=bucket, Key="n", Body=b"2", ServerSideEncryption="AES256") == ("NotImplemented", 501)
    assert refused(s3.put_object, Bucket=bucket, Key="n", Body=b"2", StorageClass="GLACIER") == ("InvalidStorageClass", 400)
    assert refused(s3.put_object_acl, Bucket=bucket, Key="n", ACL="private") == ("NotImplemented", 501)
    assert refused(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}) == ("NotImplemented", 501)
    assert refused(s3.restore_object, Bucket=bucket, Key="n") == ("NotImplemented", 501)
    assert refused(s3.list_object_versions, Bucket=bucket) == ("NotImplemented", 501)
    assert refused(s3.get_object_torrent, Bucket=bucket, Key="n") == ("NotImplemented", 501)
    assert s3.get_object(Bucket=bucket, Key="n")["Body"].read() == b"1"
    s3.put_object(Bucket=bucket, Key="n", Body=b"2", ACL="private", StorageClass="STANDARD")


def test_what_clients_probe_for(server, s3, bucket):
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] == "LOCAL-1"
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    grants = s3.get_bucket_acl(Bucket=bucket)["Grants"]
    assert [grant["Permission"] for grant in grants] == ["FULL_CONTROL"]
    s3.put_object(Bucket=bucket, Key="p", Body=b"1")
    assert s3.get_object_acl(Bucket=bucket, Key="p")["Grants"][0]["Grantee"]["Type"] == "CanonicalUser"
    for probe, expected in ((s3.get_bucket_encryption, "ServerSideEncryptionConfigurationNotFoundError"), (s3.get_bucket_policy, "NoSuchBucketPolicy"),
                            (s3.get_bucket_policy_status, "NoSuchBucketPolicy"), (s3.get_bucket_cors, "NoSuchCORSConfiguration"),
                            (s3.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration"), (s3.get_bucket_tagging, "NoSuchTagSet"),
                            (s3.get_public_access_block, "NoSuchPublicAccessBlockConfiguration"),
                            (s3.get_object_lock_configuration, "ObjectLockConfigurationNotFoundError")):
        assert refused(probe, Bucket=bucket) == (expected, 404)
    assert refused(s3.head_bucket, Bucket="not-there-at-all")[1] == 404


def test_a_bucket_is_a_volume_and_the_reverse(server, s3):
    volume = server.post("/v1/networkvolumes", {"name": "by-api", "size": 1, "dataCenterId": "LOCAL-1"})
    try:
        s3.put_object(Bucket=volume["id"], Key="k", Body=b"1")
        assert s3.get_object(Bucket="by-api", Key="k")["Body"].read() == b"1"
        assert volume["id"] in [item["Name"] for item in s3.list_buckets()["Buckets"]]
        second = server.post("/v1/networkvolumes", {"name": "by-api", "size": 1, "dataCenterId": "LOCAL-1"})
        # Two of one name: the name is nobody's then.
        assert refused(s3.head_bucket, Bucket="by-api")[1] == 404
        server.call("DELETE", f"/v1/networkvolumes/{second['id']}", expect=204)
    finally:
        server.call("DELETE", f"/v1/networkvolumes/{volume['id']}", expect=204)


def test_create_and_delete_bucket(server, s3):
    s3.create_bucket(Bucket="mk-rm", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert "mk-rm" in [item["Name"] for item in s3.list_buckets()["Buckets"]]
    assert refused(s3.create_bucket, Bucket="mk-rm") == ("BucketAlreadyOwnedByYou", 409)
    assert refused(s3.create_bucket, Bucket="Under_Score")[0] == "InvalidBucketName"
    s3.put_object(Bucket="mk-rm", Key="k", Body=b"1")
    assert refused(s3.delete_bucket, Bucket="mk-rm") == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket="mk-rm", Key="k")
    s3.delete_bucket(Bucket="mk-rm")
    assert refused(s3.delete_bucket, Bucket="mk-rm") == ("NoSuchBucket", 404)
    assert "mk-rm" not in [volume["name"] for volume in server.get("/v1/networkvolumes")]


def test_the_size_of_a_bucket_can_be_said(server, s3):
    server.aws("s3api", "create-bucket", "--bucket", "plain-size")
    client = server.s3()
    client.meta.events.register("before-call.s3.CreateBucket", lambda params, **_: params["headers"].update({"x-roost-size-gb": "3"}))
    client.create_bucket(Bucket="three-gb")
    sizes = {volume["name"]: volume["size"] for volume in server.get("/v1/networkvolumes")}
    assert sizes["plain-size"] == 1 and sizes["three-gb"] == 3
    for name in ("plain-size", "three-gb"):
        s3.delete_bucket(Bucket=name)


def test_upload_form(server, s3, bucket):
    form = s3.generate_presigned_post(bucket, "forms/${filename}", Fields={"Content-Type": "text/plain", "success_action_status": "201"},
                                      Conditions=[["starts-with", "$Content-Type", "text/"], {"success_action_status": "201"},
                                                  ["content-length-range", 1, 100]], ExpiresIn=60)
    answer = requests.post(form["url"], data=form["fields"], files={"file": ("dir/my file.txt", io.BytesIO(b"posted"))}, timeout=10)
    assert answer.status_code == 201 and "<Key>forms/my file.txt</Key>" in answer.text
    got = s3.get_object(Bucket=bucket, Key="forms/my file.txt")
    assert got["Body"].read() == b"posted" and got["ContentType"] == "text/plain"
    too_long = requests.post(form["url"], data=form["fields"], files={"file": ("a", io.BytesIO(b"x" * 101))}, timeout=10)
    assert too_long.status_code == 400 and "EntityTooLarge" in too_long.text
    other = requests.post(form["url"], data={**form["fields"], "x-amz-meta-more": "1"}, files={"file": ("a", io.BytesIO(b"x"))}, timeout=10)
    assert other.status_code == 403 and "x-amz-meta-more" in other.text
    forged = requests.post(form["url"], data={**form["fields"], "x-amz-signature": "0" * 64}, files={"file": ("a", io.BytesIO(b"x"))}, timeout=10)
    assert forged.status_code == 403 and "SignatureDoesNotMatch" in forged.text
    injected = requests.post(form["url"], data={**form["fields"], "Content-Type": "text/a\r\nSet-Cookie: x=y"}, files={"file": ("a", io.BytesIO(b"x"))}, timeout=10)
    assert injected.status_code == 400 and "control characters" in injected.text
    assert requests.post(form["url"], data="--x\r\nbroken", headers={"Content-Type": "multipart/form-data; boundary=x"}, timeout=10).status_code == 400
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["forms/my file.txt"]


def test_cors(server, s3, bucket):
    url = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "cors"})
    asked = requests.options(url, headers={"Origin": "https://app.example", "Access-Control-Request-Method": "PUT",
                                           "Access-Control-Request-Headers": "content-type,x-amz-meta-a"}, timeout=10)
    assert asked.status_code == 200 and asked.headers["Access-Control-Allow-Origin"] == "*"
    assert "PUT" in asked.headers["Access-Control-Allow-Methods"] and "x-amz-meta-a" in asked.headers["Access-Control-Allow-Headers"]
    put = requests.put(url, b"1", headers={"Origin": "https://app.example"}, timeout=10)
    assert put.status_code == 200 and "ETag" in put.headers["Access-Control-Expose-Headers"]
    assert requests.options(url, timeout=10).status_code == 400


def test_virtual_host_addressing(server, bucket):
    server.s3()
    key = server.all_key
    virtual = boto3.client("s3", endpoint_url=f"http://localhost:{server.s3_port}", aws_access_key_id=key[0], aws_secret_access_key=key[1],
                           region_name="LOCAL-1", config=boto3.session.Config(s3={"addressing_style": "virtual"}, signature_version="s3v4"))
    url = virtual.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "virtual/k"})
    host, rest = url.removeprefix("http://").split("/", 1)
    assert host == f"{bucket}.localhost:{server.s3_port}"
    put = requests.put(f"http://127.0.0.1:{server.s3_port}/{rest}", b"v", headers={"Host": host}, timeout=10)
    assert put.status_code == 200, put.text
    assert server.s3().get_object(Bucket=bucket, Key="virtual/k")["Body"].read() == b"v"
