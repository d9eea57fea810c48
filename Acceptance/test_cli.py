"""The command line: tables for people, --json for scripts, errors on stderr with exit codes."""

import json
import subprocess
import threading

from conftest import ROOST, wait_until


def test_life_of_everything(server):
    handler = "import runpod; runpod.serverless.start({'handler': lambda job: job['input']['n'] + 1})"
    made = json.loads(server.cli("template", "create", "name=cli", "imageName=test/python:1", "containerDiskInGb=1",
                                 "env.A=b=c", "dockerStartCmd=python3", "--json").stdout)
    assert made["env"] == {"A": "b=c"}
    # Commas divide lists on the command line, so a program with commas comes by REST.
    server.call("PATCH", f"/v1/templates/{made['id']}", json={"dockerStartCmd": ["python3", "-c", handler]})
    volume = json.loads(server.cli("volume", "create", "name=cli", "size=1", "dataCenterId=LOCAL-1", "--json").stdout)
    endpoint = json.loads(server.cli("endpoint", "create", f"templateId={made['id']}", f"networkVolumeId={volume['id']}",
                                     "vcpuCount=1", "memoryInGb=1", "idleTimeout=60", "--json").stdout)["id"]
    assert server.cli("run", endpoint, '{"n": 41}').stdout == "42\n"
    assert endpoint in server.cli("endpoint", "list").stdout and "STATUS" in server.cli("worker", "list", endpoint).stdout
    worker = json.loads(server.cli("worker", "list", endpoint, "--json").stdout)[0]["id"]
    assert "Starting Serverless Worker" in server.cli("logs", endpoint, worker).stdout
    failed = server.cli("run", endpoint, '{"x": 1}', code=1)
    assert "FAILED" in failed.stderr
    job = json.loads(server.cli("job", "create", endpoint, '{"input": {"n": 1}}').stdout)["id"]
    wait_until(lambda: json.loads(server.cli("job", "get", endpoint, job).stdout).get("output") == 2)
    assert job in server.cli("job", "list", endpoint).stdout
    assert "EXISTS" not in server.cli("endpoint", "update", endpoint, "workersMax=5").stdout
    assert "deleted" in server.cli("endpoint", "delete", endpoint).stdout
    wait_until(lambda: server.get(f"/v1/networkvolumes/{volume['id']}")["mountedBy"] == [], 20)
    server.cli("volume", "delete", volume["id"])
    server.cli("template", "delete", made["id"])


def test_logs_follow_until_the_worker_ends(server):
    endpoint = server.endpoint("sync")
    worker = server.do(endpoint, {})["workerId"]
    lines = []
    process = subprocess.Popen([str(ROOST), "logs", endpoint, worker, "--follow", "--url", server.url, "--key", server.KEY],
                               stdout=subprocess.PIPE, text=True)
    reader = threading.Thread(target=lambda: lines.extend(process.stdout))
    reader.start()
    server.do(endpoint, {"python": "print('marked line')"})
    server.call("DELETE", f"/v1/endpoints/{endpoint}/workers/{worker}", expect=204)
    assert process.wait(40) == 0
    reader.join()
    assert any("marked line" in line for line in lines)
    server.remove(endpoint)


def test_errors_and_exit_codes(server):
    assert "there is no endpoint" in server.cli("endpoint", "get", "nosuch", code=1).stderr
    assert "1 to 4096" in server.cli("volume", "create", "name=x", "size=5000", "dataCenterId=LOCAL-1", code=1).stderr
    assert "ROOST_API_KEY" in server.cli("endpoint", "list", code=1, key="wrong").stderr
    done = subprocess.run([str(ROOST), "endpoint", "list", "--url", "http://127.0.0.1:1"], capture_output=True, text=True)
    assert done.returncode == 2 and "is `roost serve` running" in done.stderr
    assert "there is no field" in server.cli("template", "create", "nme=x", code=64).stderr


def test_keys(server):
    made = server.cli("key", "create", "name=temporary", "scope=READ_ONLY").stdout
    assert "key, shown once: rpa_" in made
    identifier = [key for key in json.loads(server.cli("key", "list", "--json").stdout) if key["name"] == "temporary"][0]["id"]
    server.cli("key", "delete", identifier)
