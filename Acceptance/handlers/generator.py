import asyncio
import os

import runpod


async def handler(job):
    for number in range(job["input"].get("count", 3)):
        if job["input"].get("fail_at") == number:
            raise RuntimeError("stopped in the middle")
        yield {"number": number}
        await asyncio.sleep(job["input"].get("pause", 0))


runpod.serverless.start({"handler": handler, "return_aggregate_stream": os.environ.get("AGGREGATE") == "1"})
