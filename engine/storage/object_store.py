"""Object stores: how they are reached and written, and what their failures mean."""

from __future__ import annotations

import mimetypes
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pyarrow as pa
import pyarrow.fs as pafs

from engine.errors import StorageError

#: What S3's error codes come down to for a user.
_S3_CODES = {
    "NO_SUCH_BUCKET": "no such bucket; create it, or correct its name, or AWS_ENDPOINT_URL",
    "INVALID_ACCESS_KEY_ID": "the store does not know these credentials; check AWS_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH": "the store refuses these credentials; check AWS_SECRET_ACCESS_KEY",
    "NETWORK_CONNECTION": "the store does not answer; check that it is up, and its address in "
    "AWS_ENDPOINT_URL; what is finished is kept, so the same command goes on",
}
NO_BUCKET = _S3_CODES["NO_SUCH_BUCKET"]
#: Who asks the store.
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
#: A request that fails for want of an answer is made so often, with pauses that double from 0.05 s:
#: a store that is away for 25 s (a restart, a lost route) stops no run. AWS_MAX_ATTEMPTS says another number.
_ATTEMPTS = 10
#: Seconds for AWS to say in which region a bucket lies.
_REGION_S = 30.0


@cache
def remote(scheme: str, bucket: str) -> pafs.FileSystem:
    """The filesystem of a bucket; it keeps its connections. Credentials come from the environment.

    Raises:
        StorageError: the scheme is unknown or the store cannot be set up.
    """
    try:
        if scheme == "s3":
            return _s3(bucket)
        return pafs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{scheme}://{bucket}: cannot be reached ({error}); use a local path, s3:// or gs://, and check "
            "the credentials in the environment, and an S3-compatible server's address in AWS_ENDPOINT_URL"
        ) from error


def _s3(bucket: str) -> pafs.FileSystem:
    # AWS_ENDPOINT_URL names an S3-compatible server (MinIO, Ceph, moto); with one, the region of the
    # bucket is not asked from AWS.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return pafs.S3FileSystem(
        endpoint_override=endpoint or None,
        region=_region() if endpoint else _region_of(bucket),
        retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=_attempts()),
        # A small object is then one put, and not an upload in parts, of which a killed process leaves some.
        allow_delayed_open=True,
    )


def _attempts() -> int:
    """As the tools of AWS read it, which take what is no number for unset."""
    asked = os.environ.get("AWS_MAX_ATTEMPTS", "")
    return int(asked) if asked.isdecimal() and int(asked) else _ATTEMPTS


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _region_of(bucket: str) -> str:
    """Where a bucket of AWS lies.

    Asked in a thread: from a network that swallows what leaves it the library waits for minutes, and does
    not let itself be told for how long.
    """
    told: list[str | Exception] = []

    def ask() -> None:
        try:
            told.append(pafs.resolve_s3_region(bucket))
        except Exception as error:
            told.append(error)

    thread = threading.Thread(target=ask, name="region", daemon=True)
    thread.start()
    thread.join(_REGION_S)
    if not told:
        raise OSError(f"AWS did not say within {_REGION_S:g} s where the bucket lies; is there a way to it?")
    if isinstance(told[0], Exception):
        raise told[0]
    return told[0]


def meaning(error: Exception) -> str | None:
    """What a store's error comes down to, and what to do; None for any other error."""
    text = str(error)
    if "AWS Error ACCESS_DENIED" in text:
        return f"no permission; {_rights()}"
    return next((told for code, told in _S3_CODES.items() if f"AWS Error {code}" in text), None)


def _rights() -> str:
    missing = [name for name in _KEYS if not os.environ.get(name)]
    if missing and not os.environ.get("AWS_PROFILE"):
        return (
            f"not set here: {', '.join(missing)}; set both keys, or AWS_PROFILE, or give the machine a role "
            "that may use the bucket"
        )
    return "check the credentials in the environment, and the bucket's policy"


def put(fs: pafs.FileSystem, path: str, data: bytes | memoryview | pa.Buffer) -> None:
    """Write an object at once.

    In a thread, where no signal arrives: Ctrl-C between opening and writing would leave an empty object
    under the name, since Arrow closes what it opened, and an object is there once it is closed.
    """
    with ThreadPoolExecutor(1, "put") as thread:
        thread.submit(_put, fs, path, data).result()


def _put(fs: pafs.FileSystem, path: str, data: bytes | memoryview | pa.Buffer) -> None:
    with fs.open_output_stream(path, compression=None, metadata=_content_type(path)) as stream:
        stream.write(data)


def _content_type(path: str) -> dict[str, str] | None:
    """What tells a browser to show a page or picture instead of saving it; None for other files."""
    kind, _ = mimetypes.guess_type(path)
    if kind is None or not kind.startswith(("text/", "image/")):
        return None
    return {"Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind}
