"""Single images by range out of a run's shards, in any order."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.catalog.read import read_images
from engine.catalog.tables import Catalogued, parse_header, read_header
from engine.errors import RecipeError, StorageError
from engine.storage import Location

#: Shards that are read at the same time: an object store takes its time over each request.
_THREADS = 16
#: Of the catalog in memory: some 20 bytes an image, or 100 where images are files of their own.
_CACHE_BYTES = 512 * 2**20

_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Shard:
    """A shard's header and where its images lie, as columns of CATALOG."""

    header: Catalogued
    table: pa.Table


class ImageReader:
    """Reads images of the catalog's shards; may be used by several threads.

    Args:
        catalog: the directory of the catalog's tables.
        images: (m,), of each its `id` and where it is: the `row` of the table `catalog`.
    """

    def __init__(self, catalog: Location, images: pa.Table) -> None:
        self._catalog, self._ids = catalog, images["id"]
        coded = images["catalog"].combine_chunks().dictionary_encode()
        self._names: list[str] = coded.dictionary.to_pylist()
        self._shard_of = coded.indices.to_numpy()
        self._row = images["row"].to_numpy()
        # The images of shard s are _by_shard[_bounds[s] : _bounds[s + 1]].
        self._by_shard = np.argsort(self._shard_of, kind="stable")
        self._bounds = np.searchsorted(self._shard_of[self._by_shard], np.arange(len(self._names) + 1))
        self._lock, self._held = threading.Lock(), 0
        self._shards: OrderedDict[int, _Shard] = OrderedDict()

    def check(self) -> None:
        """Refuse shards of which single images cannot be read; opens the catalog's tables.

        Raises:
            RecipeError: a shard is compressed as a whole.
            StorageError: a table of the catalog cannot be read.
        """
        with ThreadPoolExecutor(_THREADS) as threads:
            for header in threads.map(lambda name: read_header(self._catalog / name), self._names):
                _check_format(header)

    def read(self, rows: Sequence[int] | _Ints) -> list[pa.Buffer | str]:
        """Encoded images, or of each the reason why it cannot be read.

        Args:
            rows: of `images`, in any order.

        Raises:
            StorageError: a shard or its catalog is missing, cannot be read, or has changed.
            RecipeError: see `check`.
        """
        wanted = np.asarray(rows, np.int64)
        found: list[pa.Buffer | str] = [""] * len(wanted)
        # By place in each shard, since formats are read forward.
        order = np.lexsort((self._row[wanted], self._shard_of[wanted]))
        starts = np.flatnonzero(np.diff(self._shard_of[wanted[order]], prepend=-1))
        groups = np.split(order, starts[1:]) if len(order) else []
        with ThreadPoolExecutor(_THREADS) as threads:
            images = threads.map(lambda group: self._read_shard(wanted[group]), groups)
            for group, some in zip(groups, images, strict=True):
                for place, image in zip(group.tolist(), some, strict=True):
                    found[place] = image
        return found

    def _read_shard(self, rows: _Ints) -> list[pa.Buffer | str]:
        """Images of one shard, in ascending order of its rows."""
        shard = self._shard(int(self._shard_of[rows[0]]))
        table = shard.table.take(pa.array(self._row[rows]))
        offsets, errors = table["offset"].is_valid().to_pylist(), table["error"].to_pylist()
        found: list[pa.Buffer | str] = [error or "no image" for error in errors]
        there = [place for place, valid in enumerate(offsets) if valid and errors[place] is None]
        loaded = read_images(shard.header, table.take(there)) if there else []
        for place, (image, reason) in zip(there, loaded, strict=True):
            found[place] = (reason or "no image") if image is None else image
        return found

    def _shard(self, number: int) -> _Shard:
        with self._lock:
            if number in self._shards:
                self._shards.move_to_end(number)
                return self._shards[number]
        shard = self._open(number)
        with self._lock:
            if number not in self._shards:
                self._shards[number] = shard
                self._held += shard.table.nbytes
            while self._held > _CACHE_BYTES and len(self._shards) > 1:
                self._held -= self._shards.popitem(last=False)[1].table.nbytes
        return shard

    def _open(self, number: int) -> _Shard:
        """Read a table of the catalog, and see that the images still lie where they did."""
        place = self._catalog / self._names[number]
        table = place.read_table(["id", "uri", "offset", "size", "error"])
        header = parse_header(place, table.schema.metadata)
        _check_format(header)
        images = self._by_shard[self._bounds[number] : self._bounds[number + 1]]
        rows, ids = self._row[images], self._ids.take(pa.array(images))
        if rows.max() >= len(table) or not pc.all(pc.equal(table["id"].take(pa.array(rows)), ids)).as_py():
            raise StorageError(
                f"{place.uri}: shard {header.name} was cataloged anew since the captions were chosen, and "
                "has other images; restore the shard, or train under another finetune.name"
            )
        names = (
            ["uri", "offset", "size", "error"] if header.format == "files" else ["offset", "size", "error"]
        )
        return _Shard(header, table.select(names).combine_chunks())


def _check_format(header: Catalogued) -> None:
    if header.format == "tar.gz":
        raise RecipeError(
            f"{header.uri}: is compressed, so that each image would cost reading the shard from its start; "
            "unpack the shards (gunzip), correct images.uri, and mine them again"
        )
