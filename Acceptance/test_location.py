"""Data centers: volumes pin workers, capacity queues or diverts."""

import pytest

from conftest import wait_until

CENTERS = [
    {"id": "EAST-1", "vcpus": 1, "memoryGb": 4},
    {"id": "WEST-1", "vcpus": 1, "memoryGb": 4, "gpus": {"Tiny GPU": 1}},
    {"id": "SOUTH-1", "vcpus": 1, "memoryGb": 4},
]


@pytest.fixture(scope="module")
def world(work_folder):
    from conftest import Server
    folder = work_folder / "world"
    folder.mkdir()
    centers = [dict(center, storage=str(folder / "disks" / center["id"])) for center in CENTERS]
    server = Server(folder, {"dataCenters": centers}).start()
    try:
        server.import_image()
        yield server
    finally:
        server.close()


def volume(world, center):
    return world.post("/v1/networkvolumes", {"name": center, "size": 1, "dataCenterId": center})["id"]


def test_volume_pins_workers_to_its_data_center(world):
    made = volume(world, "SOUTH-1")
    assert (world.folder / "disks/SOUTH-1" / f"{made}.xfs").exists()
    endpoint = world.endpoint("sync", networkVolumeId=made, computeType="CPU")
    done = world.do(endpoint, {"python": "import os; result = [os.environ['RUNPOD_DC_ID'], os.environ['RUNPOD_VOLUME_ID']]"})
    assert done["output"] == ["SOUTH-1", made]
    world.remove(endpoint)


def test_full_data_center_diverts_to_the_other_volume_or_queues(world):
    east, west = volume(world, "EAST-1"), volume(world, "WEST-1")
    endpoint = world.endpoint("sync", networkVolumeIds=[east, west], computeType="CPU", workersMax=3,
                              scalerType="REQUEST_COUNT", scalerValue=1)
    jobs = [world.run(endpoint, {"sleep": 5}) for _ in range(3)]
    workers = wait_until(lambda: (w := world.workers(endpoint)) and len(w) == 2 and w, 20)
    assert {w["dataCenterId"]: w["networkVolumeId"] for w in workers} == {"EAST-1": east, "WEST-1": west}
    assert "EAST-1" in [w for w in workers if w["dataCenterId"] == "WEST-1"][0]["placement"]
    reason = wait_until(lambda: (r := world.get(f"/v2/{endpoint}/status/{jobs[2]}").get("reason", "")) and "no capacity" in r and r, 20)
    assert "EAST-1 has 0 of 1 CPUs free" in reason and "WEST-1" in reason
    assert {world.finish(endpoint, job)["status"] for job in jobs} == {"COMPLETED"}
    world.remove(endpoint)


def test_two_volumes_of_one_data_center_are_refused_with_what_fits(world):
    first, second, other = volume(world, "EAST-1"), volume(world, "EAST-1"), volume(world, "SOUTH-1")
    template = world.post("/v1/templates", {"name": "two", "imageName": "x"})["id"]
    error = world.post("/v1/endpoints", {"templateId": template, "networkVolumeIds": [first, second]}, expect=400)["error"]
    assert "EAST-1" in error and f"{other} in SOUTH-1" in error
    error = world.post("/v1/endpoints", {"templateId": template, "networkVolumeIds": [first], "dataCenterIds": ["SOUTH-1"]},
                       expect=400)["error"]
    assert "outside dataCenterIds" in error and other in error and f"{second} in" not in error


def test_gpus_are_counted_by_type(world):
    endpoint = world.endpoint("sync", gpuTypeIds=["Tiny GPU"], workersMax=1)
    code = {"python": "import os; result = [os.environ['RUNPOD_DC_ID'], os.environ['RUNPOD_GPU_COUNT'], os.environ['RUNPOD_GPU_TYPE_ID']]"}
    assert world.do(endpoint, code)["output"] == ["WEST-1", "1", "Tiny GPU"]
    other = world.endpoint("sync", gpuTypeIds=["Huge GPU"])
    job = world.run(other, {})
    wait_until(lambda: "no 1 x Huge GPU free" in world.get(f"/v2/{other}/status/{job}").get("reason", ""), 10)
    world.remove(endpoint)
    world.remove(other)


def test_data_centers_are_listed(world):
    assert [center["id"] for center in world.get("/v1/datacenters")] == ["EAST-1", "WEST-1", "SOUTH-1"]
