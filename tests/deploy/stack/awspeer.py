"""The places that AWS credentials come from, as one HTTP server on this machine that remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

EXPIRES_AT = "2033-05-18T03:33:20Z"
EXPIRES = 2_000_000_000
STS = "https://sts.amazonaws.com/doc/2011-06-15/"


class AwsPeer(ThreadingHTTPServer):
    """Answers as STS, IAM Identity Center, ECS and an instance do."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.roles: list[str] = []
        """The roles that were assumed."""
        self.asked: list[str] = []
        """What was asked for, in order: an STS action, or a path."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: AwsPeer

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        if path.startswith("/federation/credentials"):
            keys = {"accessKeyId": "ASIASSO", "secretAccessKey": "secret", "sessionToken": "token"}
            self._answer(json.dumps({"roleCredentials": {**keys, "expiration": EXPIRES * 1000}}))
        elif path == "/latest/meta-data/iam/security-credentials/":
            self._answer("the-role")
        else:
            key = "ASIACONTAINER" if path == "/v1/credentials" else "ASIAINSTANCE"
            self._answer(
                json.dumps(
                    {"Code": "Success", "AccessKeyId": key, "SecretAccessKey": "secret", "Token": "token",
                     "Expiration": EXPIRES_AT}
                )
            )  # fmt: skip

    def do_PUT(self) -> None:
        self.server.asked.append(self.path)
        self._answer("a-session-token")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if self.path == "/token":  # of IAM Identity Center
            self.server.asked.append(self.path)
            self._answer(json.dumps({"accessToken": "new", "expiresIn": 3600, "refreshToken": "newer"}))
            return
        form = parse_qs(body)
        action = form["Action"][0]
        self.server.roles += form["RoleArn"]
        self.server.asked.append(action)
        keys = (
            f"<AccessKeyId>ASIA{action.upper()}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>"
            f"<SessionToken>token</SessionToken><Expiration>{EXPIRES_AT}</Expiration>"
        )
        self._answer(
            f'<{action}Response xmlns="{STS}"><{action}Result><Credentials>{keys}</Credentials></{action}Result>'
            f"<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>",
            "text/xml",
        )

    def _answer(self, text: str, content_type: str = "application/json") -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def aws_peer() -> Iterator[AwsPeer]:
    peer = AwsPeer()
    thread = threading.Thread(target=peer.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        peer.shutdown()
        peer.server_close()
        thread.join(10)
