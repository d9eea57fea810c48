import asyncio
import os
import time

import runpod


async def handler(job):
    begin = time.time()
    await asyncio.sleep(job["input"].get("sleep", 0))
    return {"begin": begin, "end": time.time(), "pod": os.environ["RUNPOD_POD_ID"]}


def concurrency(current):
    return int(os.environ.get("CONCURRENCY", "1"))


runpod.serverless.start({"handler": handler, "concurrency_modifier": concurrency})
