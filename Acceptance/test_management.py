"""The management API: rules, errors that name field, value and range, and schemathesis over the whole description."""

import os
import pathlib
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def template(server):
    return server.post("/v1/templates", {"name": "management", "imageName": "any:1"})


def test_template_life(server):
    made = server.post("/v1/templates", {"name": "life", "imageName": "a:1", "env": {"A": "1"}})
    assert made["containerDiskInGb"] == 50 and made["env"] == {"A": "1"} and len(made["id"]) == 10
    path = f"/v1/templates/{made['id']}"
    assert server.get(path) == made and made in server.get("/v1/templates")
    assert server.call("PATCH", path, json={"containerDiskInGb": 7}).json()["containerDiskInGb"] == 7
    assert server.post(path + "/update", {"env": {}})["env"] == {}
    assert "exists" in server.post("/v1/templates", {"name": "life", "imageName": "b"}, expect=409)["error"]
    assert server.call("DELETE", path, expect=204).content == b""
    server.get(path, expect=404)


def test_endpoint_defaults_and_includes(server, template):
    made = server.post("/v1/endpoints", {"templateId": template["id"]})
    defaults = {"workersMin": 0, "workersMax": 3, "idleTimeout": 5, "scalerType": "QUEUE_DELAY", "scalerValue": 4,
                "executionTimeoutMs": 600000, "gpuCount": 1, "version": 1, "networkVolumeIds": []}
    assert {key: made[key] for key in defaults} == defaults and "template" not in made and "workers" not in made
    full = server.get(f"/v1/endpoints/{made['id']}?includeTemplate=true&includeWorkers=true")
    assert full["template"]["id"] == template["id"] and full["workers"] == []
    assert "'includeWorkers'" in server.get("/v1/endpoints?includeWorkers=maybe", expect=400)["error"]
    error = server.call("DELETE", f"/v1/templates/{template['id']}", expect=409).json()["error"]
    assert made["id"] in error
    server.call("DELETE", f"/v1/endpoints/{made['id']}", expect=204)


@pytest.mark.parametrize("field, value, allowed", [
    ("workersMax", -1, "0 to 1000"), ("workersMax", "3", "0 to 1000"), ("workersMax", 1e99, "0 to 1000"),
    ("workersMin", 9, "workersMax"), ("idleTimeout", 0, "1 to 3600"), ("scalerType", "MAGIC", "QUEUE_DELAY, REQUEST_COUNT"),
    ("scalerValue", 0.5, "1 to"), ("executionTimeoutMs", 1, "5000 to"), ("gpuCount", True, "1 to 64"),
    ("dataCenterIds", "LOCAL-1", "array"), ("dataCenterIds", ["MARS-1"], "LOCAL-1"), ("templateId", "nosuch", "no template"),
    ("networkVolumeId", "nosuch", "no network volume"), ("name", "x" * 192, "191"), ("vcpuCount", None, None),
])
def test_endpoint_fields_are_checked(server, template, field, value, allowed):
    body = {"templateId": template["id"], field: value}
    if allowed is None:
        made = server.post("/v1/endpoints", body)
        server.call("DELETE", f"/v1/endpoints/{made['id']}", expect=204)
        return
    error = server.post("/v1/endpoints", body, expect=400)["error"]
    assert field.rstrip("s") in error and allowed in error


@pytest.mark.parametrize("body, part", [
    ({}, "'name' is required"), ({"name": "x"}, "'imageName' is required"), ({"name": 1, "imageName": "y"}, "'name'"),
    ({"name": "x", "imageName": "y", "env": {"A": 1}}, "'env'"), ({"name": "x", "imageName": "y", "env": {"A=B": "1"}}, "'env'"),
    ({"name": "x", "imageName": "y", "containerDiskInGb": 0}, "1 to 4096"), ([], "must be a JSON object"), ("x", "must be a JSON object"),
    ({"name": "x", "imageName": "y", "env": {f"K{n}": "v" for n in range(51)}}, "at most 50"),
])
def test_template_fields_are_checked(server, body, part):
    assert part in server.post("/v1/templates", body, expect=400)["error"]


@pytest.mark.parametrize("body, part", [
    ({"name": "v", "size": 0, "dataCenterId": "LOCAL-1"}, "1 to 4096"), ({"name": "v", "size": 4097, "dataCenterId": "LOCAL-1"}, "1 to 4096"),
    ({"name": "v", "size": 1, "dataCenterId": "MARS-1"}, "LOCAL-1"), ({"name": "v", "size": 1}, "'dataCenterId' is required"),
    ({"size": 1, "dataCenterId": "LOCAL-1"}, "'name' is required"), ({"name": "v", "size": 1, "dataCenterId": "../../x"}, "LOCAL-1"),
])
def test_volume_fields_are_checked(server, body, part):
    assert part in server.post("/v1/networkvolumes", body, expect=400)["error"]


def test_unknown_ids_and_paths_are_404(server):
    for path in ("/v1/templates/x", "/v1/endpoints/x", "/v1/networkvolumes/x", "/v1/apikeys/x", "/v1/images/x", "/v1/nothing",
                 "/v1/endpoints/x/workers", "/v1/endpoints/..%2f..%2fetc%2fpasswd"):
        assert server.get(path, expect=404)["error"]


def test_body_that_is_too_large_or_malformed(server):
    error = server.call("POST", "/v1/templates", data=b"[" + b"1," * (1 << 20) + b"1]", expect=413).json()["error"]
    assert "1048576" in error
    assert "malformed JSON" in server.call("POST", "/v1/templates", data=b"{", expect=400).json()["error"]


def test_minimum_volume_is_10_gb_by_default(make_server):
    server = make_server({"minimumVolumeGb": 10})
    error = server.post("/v1/networkvolumes", {"name": "v", "size": 9, "dataCenterId": "LOCAL-1"}, expect=400)["error"]
    assert "10 to 4096" in error


def test_schemathesis(make_server):
    """Every operation of the description, with data it generates: no 5xx, and nothing the description does not say."""
    server = make_server({"minimumVolumeGb": 4000})
    endpoint = server.parked_endpoint()
    # An ended job, so that nothing waits for it; for the same reason without runsync, which has tests of its own.
    job = server.run(endpoint, {})
    server.post(f"/v2/{endpoint}/cancel/{job}")
    # 507 is no fault of ours: the disk really has no room for the volumes it asks for.
    (server.folder / "schemathesis.toml").write_text(f"""
[parameters]
endpoint = "{endpoint}"
job = "{job}"
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 507]
""")
    tool = pathlib.Path(sys.executable).parent / "schemathesis"
    done = subprocess.run(
        [str(tool), "run", server.url + "/v1/openapi.json", "--header", f"Authorization: Bearer {server.KEY}",
         "--max-examples", os.environ.get("SCHEMATHESIS_EXAMPLES", "20"), "--seed", "1", "--exclude-path-regex", "runsync",
         "--request-timeout", "30",
         "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
                     "ignored_auth"],
        capture_output=True, text=True, timeout=900, cwd=server.folder)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert server.process.poll() is None
