import os
import subprocess
import time

import runpod


def handler(job):
    given = job["input"]
    if "shell" in given:
        done = subprocess.run(given["shell"], shell=True, capture_output=True, text=True)
        return {"code": done.returncode, "out": done.stdout, "err": done.stderr}
    if "python" in given:
        scope = {"job": job}
        exec(given["python"], scope)
        return scope.get("result")
    if "sleep" in given:
        time.sleep(given["sleep"])
    if "raise" in given:
        raise ValueError(given["raise"])
    if "error" in given:
        return {"error": given["error"], "left": 1}
    if given.get("progress"):
        for step in range(3):
            runpod.serverless.progress_update(job, {"step": step})
            time.sleep(0.3)
    if given.get("unserialisable"):
        return {"bad": object()}
    if given.get("nan"):
        return {"value": float("nan"), "more": [float("inf"), 1]}
    if given.get("refresh"):
        return {"refresh_worker": True, "pod": os.environ["RUNPOD_POD_ID"]}
    if given.get("exit") is not None:
        os._exit(given["exit"])
    if given.get("large"):
        return {"data": "x" * given["large"]}
    return {"echo": given, "keys": sorted(job), "pod": os.environ["RUNPOD_POD_ID"]}


runpod.serverless.start({"handler": handler})
