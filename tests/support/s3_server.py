"""moto's S3 server on a loopback port, which records its requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import boto3
from fsspec import get_filesystem_class
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@dataclass
class S3Server:
    """A server; `requests` are (method, path, range) in order, and bucket `forbidden` is denied."""

    url: str = ""
    forbidden: str = "forbidden"
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the server's clients."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """A boto3 client, independent of s3fs."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="somebody",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )

    def count(self, method: str, ending: str = "") -> int:
        return sum(m == method and path.endswith(ending) for m, path, _ in self.requests)

    def app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path, environ.get("HTTP_RANGE", "")))
        if path.startswith(f"/{self.forbidden}"):
            start_response("403 Forbidden", [("Content-Length", str(len(DENIED)))])
            return [] if method == "HEAD" else [DENIED]
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer

    def __post_init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server that runs during the block."""
    server = S3Server()
    http = make_server("127.0.0.1", 0, server.app, threaded=True, request_handler=_Quiet)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        # fsspec caches file systems with this server's address.
        get_filesystem_class("s3").clear_instance_cache()


class _Quiet(MotoRequestHandler):  # type: ignore[misc]
    def log_request(self, *args: Any, **kwargs: Any) -> None:
        pass
