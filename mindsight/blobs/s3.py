"""Payloads in a bucket of an S3-compatible server: ``PREFIX/blobs/<first two digits>/<sha256>``, as in the folder.

An object is written by one request, which the server acknowledges once it is durable: it is there whole or not at all,
and a killed writer leaves nothing. The request is signed with the payload's sha256, which the server compares. Where
the server is and with which credentials it is asked is read from AWS's own variables and files.

The only file that imports s3fs. Knows nothing of what the payloads are.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Any, TypeVar

from aiobotocore.session import AioSession
from aiohttp import ClientError as ConnectionFault
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header
from s3fs import S3FileSystem

from mindsight.blobs.protocol import SIDE_BY_SIDE, Stored, checked, unknown
from mindsight.errors import Diverged, MindsightError, NotFound, StorageFull, StorageUnavailable
from mindsight.files.digest import sha256_of
from mindsight.files.durable import storage_errors

DEADLINE_S = 6.0  # of a request with its repeat: a console waits 10 s for the gateway
READ_DEADLINE_S = 30.0  # of a whole payload
SLOWEST_BYTES_S = 10e6  # that a payload may be sent with
READY_S = 60.0
AWAY_S = 1.0  # for which a store that did not answer is not asked again: who waits behind is told at once
MEMORY_BYTES = 4 * 1024 * 1024  # of a payload that is received; a longer one goes to a file without a name

_CONFIG = {
    "connect_timeout": 2.0,
    "read_timeout": 5.0,
    "retries": {"total_max_attempts": 2, "mode": "standard"},
    "max_pool_connections": 32,
    "s3": {"payload_signing_enabled": True},
    # the sha256 says more, and servers other than Amazon's know no trailing checksums
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
_FAULTS = (OSError, TimeoutError, ValueError, BotoCoreError, ClientError, ConnectionFault)
_MISSING = frozenset({"NoSuchKey", "404"})
_FULL = frozenset({"QuotaExceeded", "QuotaExceededException", "XMinioStorageFull", "InsufficientStorage", "507"})
_CREDENTIALS = "check the credentials, in AWS_SHARED_CREDENTIALS_FILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_RIGHTS = "give these credentials GetObject, PutObject, DeleteObject and ListBucket of the bucket"
_REGION = "set AWS_REGION to the bucket's"
_REFUSED = {
    "NoSuchBucket": "make the bucket, or correct MINDSIGHT_BLOBS_URL",
    "404": "make the bucket, or correct MINDSIGHT_BLOBS_URL and AWS_ENDPOINT_URL_S3",
    "AccessDenied": _RIGHTS,
    "403": _RIGHTS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "CredentialRetrievalError": _CREDENTIALS,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "RequestTimeTooSkewed": "set this machine's clock right",
    "an address that cannot be read": "correct AWS_ENDPOINT_URL_S3",
}
_WORDS = {
    "ValueError": "an address that cannot be read",
    "EndpointConnectionError": "no connection",
    "ConnectTimeoutError": "no connection",
    "ReadTimeoutError": "no answer",
    "FSTimeoutError": "no answer",
}

T = TypeVar("T")


class _Files(S3FileSystem):  # type: ignore[misc]  # has no types
    retries = 1  # botocore repeats, and rewinds what it sends
    is_ready = False

    def get_ready(self) -> None:
        """Read the environment and the protocol's description, which takes a moment of no request's time."""
        if not self.is_ready:
            self.connect(timeout=READY_S)
            self.is_ready = True


@functools.cache
def _files() -> _Files:
    """One for the process, with its connections."""
    session = AioSession()
    session.unregister("before-call.s3", add_expect_header)  # to wait for "100 Continue" is a way there and back
    # max_concurrency: one request for one payload, which else begins with another for its length
    return _Files(
        config_kwargs=_CONFIG, session=session, max_concurrency=1, skip_instance_cache=True, use_listings_cache=False
    )


class S3Blobs:
    """``Blobs`` in a bucket.

    url : ``s3://BUCKET`` or ``s3://BUCKET/PREFIX``
    room : the folder's name in the data folder, below the prefix
    """

    is_near = False

    def __init__(self, url: str, room: str) -> None:
        self._bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = "/".join(part for part in (*prefix.split("/"), room) if part) + "/"
        self._files = _files()
        self._away_until_s = 0.0

    def put(self, payload: bytes) -> str:
        digest = sha256_of(payload)
        self._write(digest, payload, len(payload))
        return digest

    def put_many(self, payloads: Sequence[bytes]) -> list[str]:
        return self._side_by_side(self.put, payloads)

    def writer(self) -> SpooledWriter:
        return SpooledWriter(self._write)

    def get(self, digest: str) -> bytes:
        path = f"{self._bucket}/{self._key(digest)}"
        payload: bytes = self._found(self._files.cat_file, path, timeout=READ_DEADLINE_S)
        if sha256_of(payload) != digest:
            raise Diverged("a stored payload does not match its digest: send it again", code="blob.corrupt")
        return payload

    def beginning(self, digest: str, n_bytes: int) -> bytes:
        if self.size(digest) == 0:  # a range of nothing is an error
            return b""
        path = f"{self._bucket}/{self._key(digest)}"
        found: bytes = self._found(self._files.cat_file, path, start=0, end=n_bytes, timeout=DEADLINE_S)
        return found

    def size(self, digest: str) -> int:
        key = self._key(digest)
        return int(self._found(self._request, "head_object", Key=key)["ContentLength"])

    def exists(self, digest: str) -> bool:
        with suppress(NotFound):
            return self.size(digest) >= 0
        return False

    def listed(self) -> Iterator[Stored]:
        page: dict[str, Any] = {}
        while True:
            after = {"ContinuationToken": page["NextContinuationToken"]} if page else {}
            page = self._ask(self._request, "list_objects_v2", Prefix=self._prefix, **after)
            for one in page.get("Contents", ()):
                with suppress(NotFound):  # what somebody else put there
                    yield Stored(checked(one["Key"].rpartition("/")[2]), one["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return

    def remove(self, digests: Collection[str]) -> None:
        self._side_by_side(self._remove, list(digests))

    def sweep(self, older_than_s: float = 86_400.0) -> int:
        """Always 0: an object is written by one request."""
        return 0

    def _remove(self, digest: str) -> None:
        key = self._key(digest)
        done = self._ask(self._request, "delete_object", Key=key)
        while "VersionId" in done and (versions := self._versions(key)):  # a bucket that keeps them
            for version in versions:
                self._ask(self._request, "delete_object", Key=key, VersionId=version)

    def _versions(self, key: str) -> list[str]:
        page = self._ask(self._request, "list_object_versions", Prefix=key)
        return [one["VersionId"] for kind in ("Versions", "DeleteMarkers") for one in page.get(kind, ())]

    def _write(self, digest: str, body: Any, n_bytes: int) -> None:
        deadline_s = DEADLINE_S + n_bytes / SLOWEST_BYTES_S
        self._ask(self._request, "put_object", deadline_s, Key=self._key(digest), Body=body)

    def _key(self, digest: str) -> str:
        return f"{self._prefix}{checked(digest)[:2]}/{digest}"

    def _request(self, method: str, deadline_s: float = DEADLINE_S, **arguments: Any) -> Any:
        return self._files.call_s3(method, Bucket=self._bucket, timeout=deadline_s, **arguments)

    def _found(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """``_ask`` for what may not be there. Raises NotFound."""
        return self._ask(call, *arguments, _may_be_missing=True, **named)

    def _ask(self, call: Callable[..., Any], *arguments: Any, _may_be_missing: bool = False, **named: Any) -> Any:
        """What the call returns; its error as one of ours."""
        if time.monotonic() < self._away_until_s:
            raise _no_answer("none a moment ago")
        try:
            self._files.get_ready()
            return call(*arguments, **named)
        except _FAULTS as error:
            code = _code(error)
            if _may_be_missing and code in _MISSING:
                raise unknown() from None
            explained = _explained(code)
            if explained.code == StorageUnavailable.code:
                self._away_until_s = time.monotonic() + AWAY_S
            raise explained from error

    @staticmethod
    def _side_by_side(do: Callable[[Any], T], each: Sequence[Any]) -> list[T]:
        if len(each) <= 1:
            return [do(one) for one in each]
        with ThreadPoolExecutor(min(len(each), SIDE_BY_SIDE)) as threads:
            return list(threads.map(do, each))


class SpooledWriter:
    """One payload while it is received: sent when it is whole, since its name is its digest."""

    def __init__(self, send: Callable[[str, Any, int], None]) -> None:
        self._send = send
        self._sha256 = hashlib.sha256()
        self._file = SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 -- closed when the block is left
        self.nbytes = 0

    def __enter__(self) -> SpooledWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    @property
    def digest(self) -> str:
        """sha256 of the bytes received so far."""
        return self._sha256.hexdigest()

    def write(self, piece: bytes) -> None:
        self._sha256.update(piece)
        self.nbytes += len(piece)
        with storage_errors("a volume in the temporary folder"):
            self._file.write(piece)

    def commit(self) -> str:
        self._file.seek(0)
        self._send(self.digest, self._file.read() if self.nbytes <= MEMORY_BYTES else self._file, self.nbytes)
        return self.digest


def _code(error: BaseException) -> str:
    """The server's own code, or the name of what happened on the way."""
    for one in (error, error.__cause__):
        if isinstance(one, ClientError):
            return str(one.response.get("Error", {}).get("Code", "an error"))
    name = type(error).__name__
    return _WORDS.get(name, name)


def _explained(code: str) -> MindsightError:
    if code in _FULL:
        return StorageFull(f"expected space in the bucket of payloads, got {code}: free some, or raise its quota")
    if code in _REFUSED:
        text = f"expected the bucket of payloads to be open to this service, got {code}: {_REFUSED[code]}"
        return StorageUnavailable(text, code="storage.closed")
    return _no_answer(code)


def _no_answer(got: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"expected the store of payloads to answer in time, got {got}: check AWS_ENDPOINT_URL_S3, the server and the"
        " network; it is asked again"
    )
