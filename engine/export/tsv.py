"""The table that open_clip's CsvDataset reads: `filepath` and `title`, separated by tabs."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from engine.errors import SampleError
from engine.export.choice import ChosenSample, Counts
from engine.export.mined import MinedRun
from engine.export.names import Names
from engine.export.pictures import trainable
from engine.export.target import Target
from engine.storage import locate

TABLE = "captions.tsv"

#: What pandas, and with it CsvDataset, would read as a missing value and train as "nan".
_MISSING = frozenset(
    (
        ",#N/A,#N/A N/A,#NA,-1.#IND,-1.#QNAN,-NaN,-nan,1.#IND,1.#QNAN,<NA>,N/A,NA,NULL,NaN,None,n/a,nan,null"
    ).split(",")
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def lies_in_files(run: MinedRun) -> bool:
    """Whether the run's images are local files of their own, which a table can name as they are."""
    images = run.recipe.images
    uris = [images.uri] if isinstance(images.uri, str) else images.uri
    return images.source in ("folder", "coco", "karpathy", "poems") and all(
        locate(uri).is_local for uri in uris
    )


def write_tsv(samples: Iterable[ChosenSample], target: Target, folder_images: int, counts: Counts) -> int:
    """Write one row per caption; images that came with the samples become files of the export.

    Args:
        samples: with encoded bytes where the image must become a file.
        target: the export.
        folder_images: images of one folder below `images`.
        counts: takes what is written and left out.

    Returns:
        How many images were written as files.
    """
    folders = ImageFolders(target, folder_images)
    with open(target.work / TABLE, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="\t", lineterminator="\n")
        rows.writerow(("filepath", "title"))
        for chosen in samples:
            try:
                path = _path(chosen, folders)
            except SampleError as error:
                counts.left_out[str(error)] += 1
                continue
            rows.writerows((path, title(caption.caption)) for caption in chosen.captions)
            counts.add(chosen)
    return folders.written


def title(caption: str) -> str:
    """The caption on one line: tabs, line ends and control characters become single spaces.

    A caption that pandas takes for a missing value gets a space at its end, which tokenizers
    drop. Nothing else is changed: `=1+1` is a caption here, and no spreadsheet is written.
    """
    line = " ".join(_CONTROL.sub(" ", caption).split())
    return f"{line} " if line in _MISSING else line


def _path(chosen: ChosenSample, folders: ImageFolders) -> str:
    sample = chosen.sample
    if sample.image is not None:
        return folders.add(sample.key, sample.id, sample.image)
    path = Path(sample.uri)
    if sample.uri.isprintable():
        if not path.is_file():
            raise SampleError("its image file is gone")
        return sample.uri
    # A line end in a path is read differently by every reader of tables: such a file is copied.
    try:
        return folders.add(sample.key, sample.id, path.read_bytes())
    except OSError as error:
        raise SampleError("its image file cannot be read") from error


class ImageFolders:
    """Images written to `images/00000/`, `images/00001/`, ... of an export."""

    def __init__(self, target: Target, folder_images: int) -> None:
        self.target, self.folder_images = target, folder_images
        self.written = 0
        self._names = Names()

    def add(self, key: str, sample: str, data: bytes) -> str:
        """Write an image; returns the path that it will have."""
        picture, ending = trainable(data)
        folder = f"images/{self.written // self.folder_images:05d}"
        if self.written % self.folder_images == 0:
            (self.target.work / folder).mkdir(parents=True)
            self._names = Names()
        name = f"{self._names.add(key, sample)}.{ending}"
        (self.target.work / folder / name).write_bytes(picture)
        self.written += 1
        return str(self.target.final / folder / name)
