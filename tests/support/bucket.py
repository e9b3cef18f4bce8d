"""A bucket of moto's S3 server, over loopback, and the environment that leads a process to it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from support.proxy_harness import Proxy

needs_bucket = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("moto", "flask", "flask_cors", "s3fs")),
    reason="needs moto, flask-cors and s3fs: make bucket",
)
SECRET = "2b7e151628aed2a6abf7158809cf4f3c"


class Bucket:
    """A bucket as its server's operator sees it, whatever stands between the server and the service.

    url : what MINDSIGHT_BLOBS_URL names; proxy : what stands between, and may fail
    """

    def __init__(self, name: str, prefix: str, server: str, proxy: Proxy) -> None:
        from s3fs import S3FileSystem

        self.url, self.proxy = f"s3://{name}/{prefix}", proxy
        self._name, self._server = name, server
        given = {"key": "AKIAOPERATOR", "secret": "x", "endpoint_url": server, "use_listings_cache": False}
        self._files = S3FileSystem(**given, skip_instance_cache=True)
        self._ask("create_bucket")

    def names(self) -> list[str]:
        return [one["Key"] for one in self._ask("list_objects_v2").get("Contents", ())]

    def read(self, key: str) -> bytes:
        content: bytes = self._files.cat_file(f"{self._name}/{key}")
        return content

    def spoil(self, digest: str) -> None:
        (key,) = (key for key in self.names() if key.endswith(digest))
        self._ask("put_object", Key=key, Body=b"spoilt")

    def details(self, key: str) -> dict[str, Any]:
        """What the server tells of an object beside its content."""
        found: dict[str, Any] = self._ask("head_object", Key=key)
        return found

    def keep_versions(self) -> None:
        self._ask("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})

    def check_keys(self, checks: bool = True) -> None:
        """Whether the server asks who a key belongs to; it knows none."""
        httpx.post(f"{self._server}/moto-api/reset-auth", content="0" if checks else "inf", trust_env=False)

    def n_versions(self) -> int:
        """Of all objects, with the marks that tell that one was removed."""
        found = self._ask("list_object_versions")
        return len(found.get("Versions", ())) + len(found.get("DeleteMarkers", ()))

    def _ask(self, method: str, **arguments: Any) -> Any:
        return self._files.call_s3(method, Bucket=self._name, **arguments)


@contextmanager
def served_bucket(name: str = "lab-payloads", prefix: str = "decoder") -> Iterator[Bucket]:
    """A bucket, which is new to this process by its name; the environment of this process leads to it meanwhile, and so
    does that of those it starts.
    """
    from moto.server import ThreadedMotoServer

    from mindsight.blobs import s3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    proxy = Proxy(url)
    given = {
        "AWS_ENDPOINT_URL_S3": proxy.url,
        "AWS_ACCESS_KEY_ID": "AKIAMINDSIGHT",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in given.items():
                patch.setenv(variable, value)
            s3._files.cache_clear()
            yield Bucket(name, prefix, url, proxy)
    finally:
        s3._files.cache_clear()
        proxy.close()
        server.stop()
