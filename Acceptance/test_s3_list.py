"""Listings: strict byte order across pages, delimiters, markers, empty folders, and `aws s3 sync` that finds nothing to do."""

import random
import string

import pytest
from test_s3_objects import refused


def all_keys(s3, bucket, page=1000, **kwargs):
    keys, prefixes, token = [], [], {}
    while True:
        answer = s3.list_objects_v2(Bucket=bucket, MaxKeys=page, **kwargs, **token)
        keys += [item["Key"] for item in answer.get("Contents", [])]
        prefixes += [item["Prefix"] for item in answer.get("CommonPrefixes", [])]
        assert answer["KeyCount"] == len(answer.get("Contents", [])) + len(answer.get("CommonPrefixes", [])) <= page
        if not answer["IsTruncated"]:
            return keys, prefixes
        token = {"ContinuationToken": answer["NextContinuationToken"]}


TRICKY = ["a", "a-b", "a.b/c", "a0", "b/1", "b-1", "b.x", "b/x/y", "b0", "dir-1", "dir.x", "dir/x", "dir0", "e e", "e+e", "e%20e", "é", "z/é/ü", "~", "~/", "ﬀ", "😀/1"]


@pytest.fixture(scope="module")
def tree(server):
    client = server.s3()
    client.create_bucket(Bucket="listed-tree")
    keys = [key for key in TRICKY if key != "~/"]
    for key in keys:
        client.put_object(Bucket="listed-tree", Key=key, Body=key.encode())
    client.put_object(Bucket="listed-tree", Key="empty/folder/", Body=b"")
    yield "listed-tree", sorted(keys + ["empty/folder/"], key=lambda key: key.encode())
    server.call("DELETE", f"/v1/networkvolumes/{server.volume_id('listed-tree')}", expect=204)


@pytest.mark.parametrize("page", [1, 2, 3, 7, 1000])
def test_byte_order_whatever_the_page(s3, tree, page):
    bucket, expected = tree
    assert all_keys(s3, bucket, page)[0] == expected


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_delimiter(s3, tree, page):
    bucket, expected = tree
    keys, prefixes = all_keys(s3, bucket, page, Delimiter="/")
    assert keys == [key for key in expected if "/" not in key]
    assert prefixes == sorted({key.split("/")[0] + "/" for key in expected if "/" in key}, key=lambda key: key.encode())
    assert all_keys(s3, bucket, page, Delimiter="/", Prefix="b/") == (["b/1"], ["b/x/"])
    assert all_keys(s3, bucket, page, Delimiter="/", Prefix="b") == (["b-1", "b.x", "b0"], ["b/"])
    # Another delimiter than the one of paths.
    dashed = sorted({key.split("-")[0] + "-" for key in expected if "-" in key})
    assert all_keys(s3, bucket, page, Delimiter="-")[1] == dashed


@pytest.mark.parametrize("prefix", ["", "a", "a.", "b/", "b/x", "dir", "dir/", "no", "no/such", "e%", "z/é", "../", "/", "a//b", "\u0000"])
def test_prefix(s3, tree, prefix):
    bucket, expected = tree
    assert all_keys(s3, bucket, 2, Prefix=prefix)[0] == [key for key in expected if key.startswith(prefix)]


def test_start_after_and_version_one(s3, tree):
    bucket, expected = tree
    for index, key in enumerate(expected):
        found = s3.list_objects_v2(Bucket=bucket, StartAfter=key)
        assert [item["Key"] for item in found.get("Contents", [])] == expected[index + 1:]
    keys, marker = [], ""
    while True:
        page = s3.list_objects(Bucket=bucket, Marker=marker, MaxKeys=3, Delimiter="/")
        keys += [item["Key"] for item in page.get("Contents", [])] + [item["Prefix"] for item in page.get("CommonPrefixes", [])]
        if not page["IsTruncated"]:
            break
        assert page["NextMarker"].encode() > marker.encode()
        marker = page["NextMarker"]
    assert sorted(keys) == sorted({key.split("/")[0] + "/" if "/" in key else key for key in expected})


def test_limits_and_bad_arguments(s3, tree):
    bucket, expected = tree
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["KeyCount"] == 0
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=100_000)["MaxKeys"] == 1000
    assert refused(s3.list_objects_v2, Bucket=bucket, ContinuationToken="not ours!") == ("InvalidArgument", 400)
    assert refused(s3.list_objects_v2, Bucket=bucket, EncodingType="xml")[1] == 400
    owner = s3.list_objects_v2(Bucket=bucket, FetchOwner=True, MaxKeys=1)["Contents"][0]["Owner"]
    assert owner["ID"]


def test_random_trees_against_a_sorted_list(server, s3, bucket):
    chooser = random.Random(7)
    names = ["".join(chooser.choice("ab-.0/~") for _ in range(chooser.randint(1, 9))) for _ in range(400)]
    names = [name.strip("/") for name in names]
    keys = set()
    for name in names:
        parts = name.split("/")
        if not name or any(part in ("", ".", "..") for part in parts):
            continue
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if above & keys or any(key.startswith(name + "/") for key in keys):
            continue
        keys.add(name)
    code = "\n".join(f"os.makedirs(os.path.dirname({key!r}) or '.', exist_ok=True); open({key!r}, 'w').close()" for key in sorted(keys))
    server.on_volume(bucket, code)
    for page in (1, 3, 50, 1000):
        assert all_keys(s3, bucket, page)[0] == sorted(keys)
    for prefix in ("a", "a/", "b-", "0", "~", "a/b"):
        assert all_keys(s3, bucket, 2, Prefix=prefix)[0] == sorted(key for key in keys if key.startswith(prefix))


def test_sync_of_20000_files_does_nothing_the_second_time(server, tmp_path):
    server.s3().create_bucket(Bucket="synced")
    try:
        chooser = random.Random(3)
        folders = ["", "d", "d-1", "d.x", "d/x", "d/x-1", "e/f/g", "e/f-g", "e/f.g/h"]
        count = 0
        while count < 20_000:
            folder = tmp_path / chooser.choice(folders) / "".join(chooser.choice(string.ascii_lowercase[:4] + "-.") for _ in range(3)).strip(".-")
            folder.mkdir(parents=True, exist_ok=True)
            for _ in range(50):
                (folder / f"f{chooser.choice('-._0')}{count}").write_bytes(b"%d" % count)
                count += 1
        first = server.aws("s3", "sync", str(tmp_path), "s3://synced/tree", "--delete", "--only-show-errors")
        assert first == ""
        assert server.aws("s3", "sync", str(tmp_path), "s3://synced/tree", "--delete") == ""
        assert server.aws("s3", "sync", str(tmp_path), "s3://synced/tree", "--delete", "--dryrun") == ""
        keys, _ = all_keys(server.s3(), "synced")
        assert len(keys) == 20_000 and keys == sorted(keys)
        # Down again, and nothing to do after that either.
        server.aws("s3", "sync", "s3://synced/tree", str(tmp_path), "--delete", "--dryrun")
        lost = next(path for path in tmp_path.rglob("*") if path.is_file())
        lost.unlink()
        deleted = server.aws("s3", "sync", str(tmp_path), "s3://synced/tree", "--delete")
        assert deleted.count("delete:") == 1 and "upload:" not in deleted
    finally:
        server.call("DELETE", f"/v1/networkvolumes/{server.volume_id('synced')}", expect=204)
