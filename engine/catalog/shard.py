"""A shard of a source, and the cheap text that tells whether it may have changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow.fs as pafs

from engine.recipe import Images
from engine.storage import digest_of

Format = Literal["tar", "tar.gz", "parquet", "files"]

#: Endings of the files that are taken for images, in lower case.
IMAGE_ENDINGS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"})

#: A larger file is no photograph, and one of them would exceed an Arrow column of bytes.
MAX_IMAGE_BYTES = 512 * 2**20

#: Part of every shard's state: raise it when scanning learns to read something differently, so
#: that catalogs of older versions are made anew.
_SCAN_VERSION = 1


@dataclass(frozen=True)
class ImageFile:
    """An image file of a shard that is a list of files.

    Attributes:
        path: relative to the shard's `uri`.
        size: bytes as listed; -1 for a file that is not there.
        mtime_ns: modification time as listed, in nanoseconds since 1970.
        sidecars: paths of the .txt and .json files with the same stem.
        record: where a JSON annotates the images, the position of this one's record in it.
    """

    path: str
    size: int
    mtime_ns: int = 0
    sidecars: tuple[str, ...] = ()
    record: int = -1


@dataclass(frozen=True)
class Shard:
    """A unit of the catalog: a tar, a Parquet file, or a list of image files.

    Attributes:
        name: path relative to the source's root; moving the data set does not change it.
        uri: the file, or the directory that `files` are relative to.
        format: how samples lie in it.
        state: sizes, times and the settings of the scan; another text means that the shard may
            have changed and is scanned again.
        files: the files of a shard with format `files`.
    """

    name: str
    uri: str
    format: Format
    state: str
    files: tuple[ImageFile, ...] = ()


def file_state(info: pafs.FileInfo) -> str:
    """Size and modification time of a file, as they stand at the start of a shard's state."""
    return f"{info.size}.{info.mtime_ns or 0}"


def scan_settings(images: Images) -> str:
    """Digest of the settings that decide what a scan yields, for a shard's state."""
    chosen = [images.image_column, images.caption_column or "", images.key_column or "", images.digest]
    # Settings that came later count where they are made, so that catalogs of before stay as they are.
    if images.splits:
        chosen.append(f"split={sorted(images.splits)}")
    if images.captions_each is not None:
        chosen.append(f"captions_each={images.captions_each}")
    if images.caption_from == "folder_name":
        chosen.append("caption_from=folder_name")
    return digest_of(str(_SCAN_VERSION), images.source, *chosen)


def newest_of(state: str) -> int:
    """The newest modification time (ns) noted in the state of a shard made of files."""
    return int(state.partition(".")[2].partition(" ")[0])


def files_state(files: tuple[ImageFile, ...], *more: str) -> str:
    """The state of a shard made of files: total bytes, newest time, digest of the listing."""
    texts = [f"{f.path}\0{f.size}\0{f.mtime_ns}\0{f.sidecars}\0{f.record}" for f in files]
    total = sum(max(f.size, 0) for f in files)
    newest = max((f.mtime_ns for f in files), default=0)
    return f"{total}.{newest} {digest_of(*texts, *more)}"
