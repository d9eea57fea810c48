"""HTTP itself: what no client library sends, and what curl does."""

import socket
import subprocess
import time

import pytest


@pytest.fixture(scope="module")
def parked(server):
    made = server.endpoint("sync", workersMax=0)
    yield made
    server.remove(made)


def raw(server, data):
    """Sends bytes and returns the answer up to its end, or what came in two seconds."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=2) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except TimeoutError:
            pass
        return answer


def head(server, parked, *lines):
    key = f"Authorization: {server.KEY}"
    return "\r\n".join([f"POST /v2/{parked}/run HTTP/1.1", "Host: x", key, *lines, "", ""]).encode()


@pytest.mark.parametrize("name, lines, rest", [
    ("negative length", ["Content-Length: -5"], b""), ("length over 64 bits", ["Content-Length: 99999999999999999999"], b""),
    ("two framings", ["Transfer-Encoding: chunked", "Content-Length: 5"], b"0\r\n\r\n"),
    ("broken chunk", ["Transfer-Encoding: chunked"], b"zz\r\n"), ("huge header", ["X: " + "a" * 300_000], b""),
])
def test_malformed_requests_get_400(server, parked, name, lines, rest):
    assert raw(server, head(server, parked, *lines) + rest).startswith(b"HTTP/1.1 400")


def test_garbage_and_half_requests_do_not_stop_the_service(server):
    assert raw(server, b"\x00\xff\x01garbage\r\n\r\n").startswith(b"HTTP/1.1 400")
    halves = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    for half in halves:
        half.sendall(b"GET /v1/")
    server.get("/v1/endpoints")
    for half in halves:
        half.close()


def test_announced_length_over_the_limit_is_refused_before_the_body(server, parked):
    assert b" 413 " in raw(server, head(server, parked, "Content-Length: 9999999999") + b"{").split(b"\r\n")[0]


def test_curl_need_not_wait_to_send_a_large_body(server, parked, tmp_path):
    body = tmp_path / "body.json"
    body.write_bytes(b'{"input":{"x":"' + b"y" * (2 << 20) + b'"}}')
    begin = time.monotonic()
    done = subprocess.run(
        ["curl", "-sv", "-H", f"Authorization: {server.KEY}", "-H", "Expect: 100-continue", "--expect100-timeout", "20",
         "-d", f"@{body}", f"{server.url}/v2/{parked}/run"], capture_output=True, text=True, timeout=60)
    assert "IN_QUEUE" in done.stdout and "100 Continue" in done.stderr
    assert time.monotonic() - begin < 10


def test_silent_connections_are_closed_and_long_polls_are_not(make_server):
    server = make_server({"idleConnectionSeconds": 1})
    parked = server.parked_endpoint()
    for silent in (b"", b"GET /v1/endpoints HTTP/1.1\r\nHost", head(server, parked, "Content-Length: 100") + b"{"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(silent)
            while connection.recv(65536):
                pass
    answer = server.post(f"/v2/{parked}/runsync?wait=3000", {"input": {}})
    assert answer["status"] == "IN_QUEUE"
