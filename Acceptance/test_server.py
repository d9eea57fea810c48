"""The server's own life: start, stop, kill, start again."""

import re
import subprocess
import time

import pytest
import requests

from conftest import ROOST, Server, wait_until


def test_sigterm_finishes_running_jobs_and_exits_zero(make_server):
    server = make_server(image=True)
    endpoint = server.endpoint("sync")
    server.do(endpoint, {})
    running, queued = server.run(endpoint, {"sleep": 2}), None
    wait_until(lambda: server.get(f"/v2/{endpoint}/status/{running}")["status"] == "IN_PROGRESS")
    queued = server.run(endpoint, {})
    assert server.terminate() == 0
    assert server.loops() == []
    server.start()
    assert server.get(f"/v2/{endpoint}/status/{running}")["status"] == "COMPLETED"
    assert server.finish(endpoint, queued)["status"] == "COMPLETED"


def test_sigterm_gives_back_what_takes_too_long(make_server):
    server = make_server({"shutdownGraceSeconds": 1}, image=True)
    endpoint = server.endpoint("sync")
    job = server.run(endpoint, {"sleep": 8})
    wait_until(lambda: server.get(f"/v2/{endpoint}/status/{job}")["status"] == "IN_PROGRESS", 30)
    assert server.terminate() == 0
    server.start()
    done = server.finish(endpoint, job)
    assert done["status"] == "COMPLETED" and "retries" not in done


def test_kill_adopts_workers_and_loses_no_result(make_server):
    server = make_server(image=True)
    volume = server.post("/v1/networkvolumes", {"name": "v", "size": 1, "dataCenterId": "LOCAL-1"})["id"]
    endpoint = server.endpoint("sync", networkVolumeId=volume)
    running = server.run(endpoint, {"sleep": 4, "n": 1})
    wait_until(lambda: server.get(f"/v2/{endpoint}/status/{running}")["status"] == "IN_PROGRESS", 30)
    queued = server.run(endpoint, {"shell": "echo kept > /runpod-volume/f; cat /runpod-volume/f"})
    worker = server.workers(endpoint)[0]["id"]
    server.kill()
    server.start()
    assert "workers_adopted=1" in server.log.read_text()
    first, second = server.finish(endpoint, running), server.finish(endpoint, queued)
    assert first["status"] == second["status"] == "COMPLETED"
    assert first["workerId"] == second["workerId"] == worker
    assert "retries" not in first
    assert second["output"]["out"] == "kept\n"
    assert server.get(f"/v1/networkvolumes/{volume}")["mountedBy"] == [worker]
    server.call("DELETE", f"/v1/endpoints/{endpoint}/workers/{worker}", expect=204)
    wait_until(lambda: not (server.data / "workers" / worker).exists(), 20)


def test_worker_that_died_with_the_server_is_wiped_and_its_job_runs_again(make_server):
    server = make_server(image=True)
    endpoint = server.endpoint("sync")
    job = server.run(endpoint, {"sleep": 5})
    wait_until(lambda: server.get(f"/v2/{endpoint}/status/{job}")["status"] == "IN_PROGRESS", 30)
    worker = server.workers(endpoint)[0]["id"]
    server.kill()
    state = ["--root", str(server.data / "runtime")]
    subprocess.run(["crun", *state, "kill", worker, "KILL"], check=True)
    # A folder without a record, as a crash between the two steps leaves it.
    (server.data / "workers/orphan00000000").mkdir()
    wait_until(lambda: not server.loops(), 20, "loop devices freed by the kernel")
    server.start()
    assert "workers_wiped=2" in server.log.read_text()
    assert not (server.data / "workers" / worker).exists()
    assert not (server.data / "workers/orphan00000000").exists()
    assert server.finish(endpoint, job)["status"] == "COMPLETED"


def test_no_accepted_job_is_lost_by_kill(make_server):
    server = make_server()
    parked = server.parked_endpoint()
    accepted = []
    import threading

    def submit():
        session = requests.Session()
        session.headers["Authorization"] = server.KEY
        while True:
            try:
                answer = session.post(f"{server.url}/v2/{parked}/run", json={"input": {"n": len(accepted)}}, timeout=10)
            except requests.RequestException:
                return
            if answer.status_code == 200:
                accepted.append(answer.json()["id"])

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(accepted) > 300)
    server.kill()
    for thread in threads:
        thread.join()
    server.start()
    health = server.get(f"/v2/{parked}/health")
    assert health["jobs"]["inQueue"] >= len(accepted)
    for job in accepted[::10] + accepted[-20:]:
        assert server.get(f"/v2/{parked}/status/{job}")["status"] == "IN_QUEUE"


def test_workers_and_server_killed_under_load_lose_no_job(make_server):
    server = make_server({"jobRetries": 5}, image=True)
    endpoint = server.endpoint("asynchronous", template={"env": {"CONCURRENCY": "8"}}, workersMax=3,
                               scalerType="REQUEST_COUNT", scalerValue=20)
    jobs = [server.run(endpoint, {"sleep": number % 10 / 20}) for number in range(150)]
    for round in range(3):
        done = 20 * (round + 1)
        wait_until(lambda: server.get(f"/v2/{endpoint}/health")["jobs"]["completed"] >= done, 60)
        running = [worker["id"] for worker in server.workers(endpoint) if worker["status"] in ("IDLE", "RUNNING")]
        if running:
            subprocess.run(["crun", "--root", str(server.data / "runtime"), "kill", running[0], "KILL"])
        if round == 1:
            server.kill()
            server.start()
    assert {server.finish(endpoint, job)["status"] for job in jobs} == {"COMPLETED"}
    health = server.get(f"/v2/{endpoint}/health")["jobs"]
    assert (health["completed"], health["inQueue"], health["inProgress"]) == (150, 0, 0)


def test_interrupted_volume_creation_is_finished(make_server):
    server = make_server()
    volume = server.post("/v1/networkvolumes", {"name": "v", "size": 1, "dataCenterId": "LOCAL-1"})["id"]
    server.terminate()
    # The state a crash leaves between record and filesystem.
    folder = server.data / "volumes/LOCAL-1"
    (folder / f"{volume}.xfs").rename(folder / f"{volume}.xfs.making")
    import sqlite3
    with sqlite3.connect(server.data / "roost.sqlite") as database:
        database.execute("UPDATE document SET body = replace(CAST(body AS TEXT), '\"READY\"', '\"CREATING\"') WHERE kind = 'volume'")
    database.close()
    server.start()
    assert server.get(f"/v1/networkvolumes/{volume}")["status"] == "READY"


def test_second_server_on_the_same_data_refuses(make_server):
    server = make_server()
    second = subprocess.run([str(ROOST), "serve", "--data-dir", str(server.data), "--listen", "127.0.0.1:0"],
                            capture_output=True, text=True, timeout=20)
    assert second.returncode != 0 and "another roost serves" in second.stderr
    assert server.get("/v1/endpoints") == []


def test_admin_key_is_shown_once_and_only_its_hash_is_kept(make_server):
    server = make_server(env={"ROOST_ADMIN_KEY": ""})
    key = re.search(r"admin API key, shown once: (rpa_[0-9a-f]{64})", server.log.read_text()).group(1)
    assert server.get("/v1/templates", key=key) == []
    server.terminate()
    server.start()
    assert "admin API key" not in server.log.read_text()
    for file in server.data.glob("roost.sqlite*"):
        assert key.encode() not in file.read_bytes()
    server.get("/v1/templates", key=key)


def test_flags_come_before_environment_before_file(work_folder):
    server = Server(work_folder / "precedence", {"dataDir": "/nonexistent/file", "listen": "127.0.0.1:1"})
    server.folder.mkdir()
    server.env.update(ROOST_DATA_DIR="/nonexistent/env", ROOST_LISTEN="127.0.0.1:2")
    try:
        server.start()
        assert server.get("/v1/endpoints") == []
    finally:
        server.close()


def test_configuration_mistakes_are_named(work_folder):
    folder = work_folder / "mistakes"
    folder.mkdir()
    for text, part in [('{"lissten": 1}', "unknown key 'lissten'"), ("{", "malformed JSON"),
                       ('{"minimumVolumeGb": 0}', "1 to 4096"), ('{"dataCenters": []}', "dataCenters"),
                       ('{"listen": "nowhere"}', "HOST:PORT")]:
        config = folder / "c.json"
        config.write_text(text)
        done = subprocess.run([str(ROOST), "serve", "--config", str(config), "--data-dir", str(folder / "d")],
                              capture_output=True, text=True, timeout=20)
        assert done.returncode != 0 and part in done.stderr, done.stderr


def test_doctor_names_a_remedy_and_serve_refuses_with_the_same_words(work_folder):
    folder = work_folder / "doctor"
    folder.mkdir()
    good = subprocess.run([str(ROOST), "doctor", "--data-dir", str(folder)], capture_output=True, text=True, timeout=20)
    assert good.returncode == 0 and "FAIL" not in good.stdout
    flags = ["--data-dir", str(folder), "--runtime", "norun"]
    bad = subprocess.run([str(ROOST), "doctor", *flags], capture_output=True, text=True, timeout=20)
    words = "OCI runtime: none of norun: apt-get install crun"
    assert bad.returncode == 1 and f"FAIL {words}" in bad.stdout
    refused = subprocess.run([str(ROOST), "serve", *flags], capture_output=True, text=True, timeout=20)
    assert refused.returncode == 1 and words in refused.stderr


def test_mounts_of_the_server_do_not_show_on_the_host(make_server):
    server = make_server()
    server.post("/v1/networkvolumes", {"name": "v", "size": 1, "dataCenterId": "LOCAL-1"})
    assert str(server.data) not in open("/proc/mounts").read()
    assert len(server.loops()) == 1
    server.kill()
    wait_until(lambda: server.loops() == [], 20, "the loop device freed after kill -9")


def test_runc_works_too(make_server):
    server = make_server({"runtime": "runc"}, image=True)
    endpoint = server.endpoint("sync")
    assert server.do(endpoint, {"n": 1})["status"] == "COMPLETED"
    done = server.do(endpoint, {"python": "x = bytearray(3 << 30)"}, seconds=90)
    assert "ran out of memory" in done["error"]


def test_full_disk_refuses_jobs_and_loses_none(small_disk, tmp_path):
    # The log lies elsewhere: what it says is how the test knows that the server is up.
    server = Server(tmp_path, {"diskReserveGb": 0})
    server.data = small_disk / "data"
    try:
        server.start()
        parked = server.parked_endpoint()
        accepted, refused = [], None
        for _ in range(60):
            answer = server.call("POST", f"/v2/{parked}/run", json={"input": {"x": "y" * (4 << 20)}}, expect=(200, 507))
            if answer.status_code == 507:
                refused = answer.json()["error"]
                break
            accepted.append(answer.json()["id"])
        assert "full" in refused and len(accepted) > 3
        # Nothing accepted is lost, and the server goes on, also over a kill.
        assert server.get(f"/v2/{parked}/status/{accepted[0]}")["status"] == "IN_QUEUE"
        server.kill()
        server.start()
        assert server.get(f"/v2/{parked}/health")["jobs"]["inQueue"] == len(accepted)
        assert {server.get(f"/v2/{parked}/status/{job}")["status"] for job in accepted} == {"IN_QUEUE"}
    finally:
        server.close()
