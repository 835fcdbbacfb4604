"""A place on a filesystem: local path or s3:// or gs://, read, listed, and written atomically."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from engine.errors import StorageError
from engine.storage.object_store import NO_BUCKET, meaning, put, remote


@dataclass(frozen=True)
class Location:
    """A file or directory named by its URI (`s3://bucket/a`, `/data/a`, `a`).

    Holds no connection, so it travels between processes. Writing is atomic: local files are
    written beside their name, flushed to the disk and renamed; object stores put whole objects.
    """

    uri: str

    @property
    def name(self) -> str:
        """The last component."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    @property
    def is_local(self) -> bool:
        """Whether the place lies on a mounted filesystem."""
        return "://" not in self.uri

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.uri.rstrip('/')}/{name}")

    def resolve(self) -> tuple[pafs.FileSystem, str]:
        """The filesystem and this place's path in it.

        Raises:
            StorageError: the scheme is unknown or the store cannot be set up.
        """
        if self.is_local:
            return _local(), self.uri
        scheme, _, path = self.uri.partition("://")
        bucket, _, key = path.partition("/")
        return remote(scheme, bucket), f"{bucket}/{key}".rstrip("/")

    def exists(self) -> bool:
        """Whether a file or directory is there."""
        return bool(self.info().type != pafs.FileType.NotFound)

    def info(self) -> pafs.FileInfo:
        """Type, size in bytes and modification time."""
        fs, path = self.resolve()
        with explained(self):
            return fs.get_file_info(path)

    def without_bucket(self) -> str | None:
        """What to say if the place is not there because its bucket is not; None otherwise.

        A look at an object does not tell: a store answers alike whether the one or the other is missing.
        """
        if self.is_local:
            return None
        bucket = Location("/".join(self.uri.split("/")[:3]))
        try:
            return None if bucket.exists() else f"{bucket.uri}: {NO_BUCKET}"
        except StorageError:  # who may use a folder of it need not see the bucket
            return None

    def entries(self, recursive: bool = False) -> list[pafs.FileInfo]:
        """What lies under this directory, sorted by path; empty if it does not exist."""
        fs, path = self.resolve()
        with explained(self):
            found = fs.get_file_info(pafs.FileSelector(path, allow_not_found=True, recursive=recursive))
        return sorted(found, key=lambda info: info.path)

    def names(self) -> set[str]:
        """The names of the files in this directory, without those still being written."""
        if self.is_local:
            with explained(self):
                return _file_names(self.uri)
        return {i.base_name for i in self.entries() if i.is_file and not i.base_name.startswith(".")}

    def read_bytes(self, offset: int = 0, size: int | None = None) -> bytes:
        """Read the file, or `size` bytes of it from `offset`; fewer where the file ends."""
        fs, path = self.resolve()
        with explained(self), fs.open_input_file(path) as file:
            return bytes(file.read_at(size if size is not None else file.size() - offset, offset))

    def read_buffer(self) -> pa.Buffer:
        """Read the file into Arrow's memory, which keeps what it frees and gives it out again.

        What Python frees goes back to the kernel, and pages that are fresh from it cost ten times as
        long as what is read into them.
        """
        fs, path = self.resolve()
        with explained(self), fs.open_input_file(path) as file:
            return file.read_buffer()

    def read_if_there(self) -> bytes | None:
        """Read the file; None if it does not exist. One request where a look before would be another."""
        try:
            return self.read_bytes()
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def read_text(self) -> str:
        """Read the file as UTF-8."""
        try:
            return self.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            where = f"{error.reason} at byte {error.start}"
            raise StorageError(f"{self.uri}: not UTF-8 text ({where})") from error

    def read_table(self, columns: list[str] | None = None) -> pa.Table:
        """Read the Parquet file."""
        fs, path = self.resolve()
        with explained(self), fs.open_input_file(path) as file:
            return pq.ParquetFile(file).read(columns=columns)

    def write_bytes(self, data: bytes | memoryview | pa.Buffer, replace: bool = True) -> bool:
        """Write the whole file at once: readers see all of it or none of it.

        Args:
            data: the content.
            replace: whether it takes the place of a file that is there. Without it, of two local
                writers exactly one writes; object stores are asked before the put.

        Returns:
            Whether it was written.

        Raises:
            StorageError: it cannot be written (disk full, no permission); nothing is left behind.
        """
        fs, path = self.resolve()
        with explained(self):
            if self.is_local:
                return _write(Path(path), data, replace)
            if not replace and self.exists():
                return False
            put(fs, path, data)
            return True

    def write_table(self, table: pa.Table, row_group_size: int | None = None, replace: bool = True) -> bool:
        """Write a Parquet file (zstd), atomically as `write_bytes`; equal tables, equal bytes."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
        return self.write_bytes(sink.getvalue(), replace)

    def make_directory(self) -> None:
        """Create the directory and its parents; nothing to do on object stores."""
        if self.is_local:
            with explained(self):
                os.makedirs(self.uri, exist_ok=True)

    def move(self, target: Location) -> None:
        """Give the file another name on the same filesystem, replacing what is there."""
        fs, path = self.resolve()
        Location(target.uri.rsplit("/", 1)[0]).make_directory()
        with explained(self):
            fs.move(path, target.resolve()[1])

    def delete(self) -> None:
        """Delete the file if it is there."""
        fs, path = self.resolve()
        with explained(self):
            if self.exists():
                fs.delete_file(path)


def locate(uri: str | Path) -> Location:
    """The place a user named: local paths become absolute, so that workers agree on them.

    Raises:
        StorageError: the URI is empty.
    """
    text = str(uri)
    if not text:
        raise StorageError("an empty path names no file: name a directory, a file or an s3:// URI")
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    return Location(text if "://" in text else os.path.abspath(os.path.expanduser(text)))


@contextmanager
def explained(place: Location) -> Iterator[None]:
    """Turn the filesystem's exceptions into a message that names the place and the way out."""
    try:
        yield
    except StorageError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{place.uri}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    import errno

    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; make room and run the same command again, finished parts are kept"
    if isinstance(error, PermissionError) or number in (errno.EACCES, errno.EROFS):
        return f"no permission ({error}); check its owner and mode, or the credentials"
    if isinstance(error, FileNotFoundError):
        return "does not exist; check the path"
    if told := meaning(error):
        return f"{told} ({error})"
    return f"{type(error).__name__}: {error}"


def _file_names(directory: str) -> set[str]:
    """The names as the directory itself has them: a listing by pyarrow asks after every file, too."""
    try:
        with os.scandir(directory) as found:
            return {entry.name for entry in found if not entry.name.startswith(".") and entry.is_file()}
    except FileNotFoundError:
        return set()


def _write(path: Path, data: bytes | memoryview | pa.Buffer, replace: bool) -> bool:
    """Write to a hidden name beside `path`, flush to the disk, rename, flush the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        elif not _name(temporary, path):
            return False
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return True


def _name(temporary: Path, path: Path) -> bool:
    """Give the file its name; False if another one has it. A link, unlike a rename, replaces nothing."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a filesystem without links
        if path.exists():
            return False
        os.replace(temporary, path)
    return True


@cache
def _local() -> pafs.LocalFileSystem:
    return pafs.LocalFileSystem()
