"""Object stores that are not ours, started for a test and stopped after it."""

import pathlib
import random
import socket
import subprocess
import sys
import time

import boto3
import botocore.exceptions
from botocore.config import Config

TOOLS = pathlib.Path(sys.executable).parent


def free_port():
    """Below the ports that connections take by themselves; SeaweedFS adds 10,000 for its second ports."""
    while True:
        port = random.randrange(12_000, 22_000)
        with socket.socket() as probe, socket.socket() as second:
            try:
                probe.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10_000))
                return port
            except OSError:
                continue


class Store:
    """One store with one bucket."""

    bucket = "foreign"
    access, secret = "foreign-key", "foreign/secret+1"

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        end = time.monotonic() + 60
        while True:
            try:
                client = self.s3()
                if self.bucket not in [item["Name"] for item in client.list_buckets()["Buckets"]]:
                    client.create_bucket(Bucket=self.bucket)
                client.put_object(Bucket=self.bucket, Key="probe", Body=b"x")
                client.delete_object(Bucket=self.bucket, Key="probe")
                return self
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                assert self.process.poll() is None, f"{self.command()} ended"
                assert time.monotonic() < end, f"{self.command()} does not come up"
                time.sleep(0.1)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def s3(self):
        return boto3.client("s3", endpoint_url=self.url, aws_access_key_id=self.access, aws_secret_access_key=self.secret, region_name="us-east-1",
                            config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30, request_checksum_calculation="when_required"))

    def keys(self, prefix=""):
        pages = self.s3().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))

    def read(self, key):
        return self.s3().get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def put(self, key, body):
        self.s3().put_object(Bucket=self.bucket, Key=key, Body=body)

    @property
    def fields(self):
        """Fields of an object store of Roost's."""
        return {"endpointUrl": self.url, "bucketName": self.bucket, "accessId": self.access, "accessSecret": self.secret}


class Rclone(Store):
    def command(self):
        (self.folder / self.bucket).mkdir(exist_ok=True, parents=True)
        return [str(TOOLS / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{self.access},{self.secret}",
                "--config", "/dev/null", str(self.folder)]


class SeaweedFS(Store):
    access, secret = "weed-key", "weed/secret+2"

    def command(self):
        self.folder.mkdir(exist_ok=True, parents=True)
        config = self.folder / "s3.json"
        config.write_text('{"identities": [{"name": "t", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], '
                          '"actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}' % (self.access, self.secret))
        if not hasattr(self, "ports"):
            self.ports = [free_port() for _ in range(3)]
        return [str(TOOLS / "weed"), "server", "-dir", str(self.folder), "-ip", "127.0.0.1", "-master.port", str(self.ports[0]), "-volume.port",
                str(self.ports[1]), "-filer", "-filer.port", str(self.ports[2]), "-s3", "-s3.port", str(self.port), "-s3.config", str(config),
                "-master.volumeSizeLimitMB", "1024", "-volume.max", "60"]
