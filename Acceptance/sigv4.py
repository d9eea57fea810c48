"""Signs S3 requests by hand, so that tests can send what no client would, and can break what they like."""

import datetime
import hashlib
import hmac
import http.client
import socket
import urllib.parse

EMPTY = hashlib.sha256(b"").hexdigest()


def quote(text, safe="-._~"):
    return urllib.parse.quote(text, safe=safe)


def signing_key(secret, day, region):
    key = ("AWS4" + secret).encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class Signer:
    """One server and key. `path` is sent as given: percent-encode it yourself."""

    def __init__(self, server, key=None, region="us-east-1"):
        self.server, self.region = server, region
        self.access, self.secret = key or server.s3_key(name="raw")
        self.host = f"127.0.0.1:{server.s3_port}"

    def headers(self, method, path, query="", payload=EMPTY, headers=None, at=None, canonical_path=None, region=None, secret=None):
        region = region or self.region
        at = at or datetime.datetime.now(datetime.timezone.utc)
        stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
        all_headers = {"host": self.host, "x-amz-date": stamp, "x-amz-content-sha256": payload,
                       **{name.lower(): value for name, value in (headers or {}).items()}}
        names = ";".join(sorted(all_headers))
        pairs = sorted(pair.partition("=")[::2] for pair in query.split("&") if pair)
        request = "\n".join([
            method, canonical_path or path, "&".join(f"{name}={value}" for name, value in pairs),
            *[f"{name}:{all_headers[name].strip()}" for name in sorted(all_headers)], "", names, payload])
        scope = f"{day}/{region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        self.key, self.scope, self.stamp = signing_key(secret or self.secret, day, region), scope, stamp
        self.signature = sign(self.key, text)
        all_headers["authorization"] = \
            f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, SignedHeaders={names}, Signature={self.signature}"
        return all_headers

    def send(self, method, path, body=b"", query="", headers=None, extra=None, payload=None, **kwargs):
        """Status, headers and body of one request. `extra` headers go unsigned."""
        payload = payload or hashlib.sha256(body).hexdigest()
        signed = self.headers(method, path, query, payload, headers, **kwargs)
        return self.plain(method, path + ("?" + query if query else ""), {**signed, **(extra or {})}, body)

    def plain(self, method, target, headers, body=b""):
        link = http.client.HTTPConnection("127.0.0.1", self.server.s3_port, timeout=30)
        try:
            link.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                link.putheader(name, value)
            if "content-length" not in {name.lower() for name in headers} and "transfer-encoding" not in {name.lower() for name in headers}:
                link.putheader("content-length", str(len(body)))
            link.endheaders(body)
            answer = link.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            link.close()

    def presign(self, method, path, expires=3600, at=None, query="", headers=None):
        at = at or datetime.datetime.now(datetime.timezone.utc)
        stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
        scope = f"{day}/{self.region}/s3/aws4_request"
        signed = {"host": self.host, **(headers or {})}
        names = ";".join(sorted(signed))
        fields = {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{self.access}/{scope}", "X-Amz-Date": stamp,
                  "X-Amz-Expires": str(expires), "X-Amz-SignedHeaders": names}
        pairs = sorted([f"{quote(name)}={quote(value)}" for name, value in fields.items()] + [pair for pair in query.split("&") if pair])
        request = "\n".join([method, path, "&".join(pairs), *[f"{name}:{signed[name]}" for name in sorted(signed)], "", names, "UNSIGNED-PAYLOAD"])
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        return f"{path}?{'&'.join(pairs)}&X-Amz-Signature={sign(signing_key(self.secret, day, self.region), text)}"

    def chunks(self, pieces, trailers=None):
        """The aws-chunked body of a signed stream, after `headers` made the seed signature."""
        previous, out = self.signature, b""
        for piece in [*pieces, b""]:
            text = f"AWS4-HMAC-SHA256-PAYLOAD\n{self.stamp}\n{self.scope}\n{previous}\n{EMPTY}\n{hashlib.sha256(piece).hexdigest()}"
            previous = sign(self.key, text)
            out += f"{len(piece):x};chunk-signature={previous}\r\n".encode() + piece + (b"\r\n" if piece else b"")
        if trailers is not None:
            lines = "".join(f"{name}:{value}\n" for name, value in trailers.items())
            text = f"AWS4-HMAC-SHA256-TRAILER\n{self.stamp}\n{self.scope}\n{previous}\n{hashlib.sha256(lines.encode()).hexdigest()}"
            out += lines.replace("\n", "\r\n").encode() + f"x-amz-trailer-signature:{sign(self.key, text)}\r\n".encode()
        return out + b"\r\n"

    def socket(self):
        return socket.create_connection(("127.0.0.1", self.server.s3_port), timeout=30)


def code(body):
    """The code of an error document."""
    text = body.decode()
    return text.split("<Code>", 1)[1].split("</Code>", 1)[0] if "<Code>" in text else text
