"""Sequential and random I/O in one folder; the same file runs inside a worker and on the host. Prints nothing."""


def measure(folder, megabytes=256, operations=3000):
    import mmap
    import os
    import random
    import time

    path = os.path.join(folder, "roost-io")
    size = megabytes << 20
    block = mmap.mmap(-1, 1 << 20)
    block.write(os.urandom(1 << 20))
    small = memoryview(block)[:4096]
    result = {}

    def timed(name, amount, work):
        begin = time.perf_counter()
        work()
        result[name] = amount / (time.perf_counter() - begin)

    def write_all(fd):
        for offset in range(0, size, 1 << 20):
            os.pwrite(fd, block, offset)
        os.fsync(fd)

    def read_all(fd):
        for offset in range(0, size, 1 << 20):
            os.preadv(fd, [block], offset)

    def places():
        return [random.Random(number).randrange(size // 4096) * 4096 for number in range(operations)]

    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    timed("sequential write, fsync (MB/s)", megabytes, lambda: write_all(fd))
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    timed("sequential read, cold (MB/s)", megabytes, lambda: read_all(fd))
    timed("sequential read, warm (MB/s)", megabytes, lambda: read_all(fd))
    timed("4 KiB random write, buffered (op/s)", operations, lambda: [os.pwrite(fd, small, at) for at in places()])
    os.fsync(fd)
    os.close(fd)
    try:
        direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        timed("4 KiB random write, direct (op/s)", operations, lambda: [os.pwrite(direct, small, at) for at in places()])
        timed("4 KiB random read, direct (op/s)", operations, lambda: [os.preadv(direct, [small], at) for at in places()])
        os.close(direct)
    except OSError as error:
        result["direct"] = str(error)
    os.unlink(path)
    return result
