"""Images and their captions as the workers of a training see them, and the file that keeps them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import StorageError
from engine.storage import Location
from engine.training.captions import PAIRS

#: What is known of an image, and of a caption.
IMAGE, CAPTION = ["id", "key", "catalog", "row"], ["caption", "level", "weight"]
#: One row per image, so that the file opens in any tool as what it is.
_FILE = pa.schema(
    [
        *(PAIRS.field(name) for name in IMAGE),
        pa.field("held_out", pa.bool_(), nullable=False),
        pa.field("captions", pa.list_(pa.struct([PAIRS.field(name) for name in CAPTION])), nullable=False),
    ]
)
_METADATA = b"connote"
#: Reasons that a message or the terminal names.
_NAMED = 5
#: Held-out images below which recalls say next to nothing.
_TELLING = 20
_WAY_OUT = "put it back, or choose another finetune.name"


@dataclass(frozen=True)
class Pairs:
    """n captions of m images, by the images' ids; an image's are consecutive, in catalog order.

    Attributes:
        image: (n,), int32: each caption's row in `images`.
        level: (n,), int8: of abstraction, 0 to 4; -1 of captions that came with the images.
        weight: (n,), float32: in the loss.
        captions: (n,), the texts.
        images: (m,), of each its `id`, its `key`, and where it is: the `row` of the table `catalog`.
        held_out: (m,), bool: which images are kept for validation, with all their captions.
        left_out: how many captions, or whole samples, were left out, by reason.
    """

    image: NDArray[np.int32]
    level: NDArray[np.int8]
    weight: NDArray[np.float32]
    captions: pa.LargeStringArray
    images: pa.Table
    held_out: NDArray[np.bool_]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def training(self) -> NDArray[np.int64]:
        """The captions that are trained on."""
        return np.flatnonzero(~self.held_out[self.image])

    def validation(self, limit: int) -> NDArray[np.int64]:
        """The captions of at most `limit` images that are held out."""
        # The first by id: ids are digests, so these are as good as drawn, and the same every time.
        chosen = np.zeros(len(self.held_out), np.bool_)
        chosen[np.flatnonzero(self.held_out)[:limit]] = True
        return np.flatnonzero(chosen[self.image])

    def told(self) -> list[str]:
        """What there is and what was left out, for the terminal."""
        held = int(self.held_out.sum())
        lines = [
            f"pairs      {len(self.training()):,} captions of {len(self.images) - held:,} images to train "
            f"on, {held:,} image{'' if held == 1 else 's'} held out"
        ]
        if 0 < held < _TELLING:
            lines.append(
                f"           among so few, recall tells little (of {min(held, 5)} every R@5 is 100 %): raise "
                "finetune.data.validation"
            )
        if self.left_out:
            lines.append(f"left out   {most_of(self.left_out)}")
        return lines

    def write(self, place: Location) -> None:
        """Write them as one Parquet file.

        Raises:
            StorageError: it cannot be written.
        """
        columns = [self.captions, pa.array(self.level), pa.array(self.weight)]
        captions = pa.StructArray.from_arrays(columns, fields=[PAIRS.field(name) for name in CAPTION])
        offsets = np.searchsorted(self.image, np.arange(len(self.images) + 1)).astype(np.int32)
        lists = pa.ListArray.from_arrays(pa.array(offsets), captions, type=_FILE.field("captions").type)
        values = [*self.images.select(IMAGE).columns, pa.array(self.held_out), lists]
        metadata = {_METADATA: json.dumps({"left_out": dict(self.left_out)}, ensure_ascii=False).encode()}
        place.write_table(pa.table(values, schema=_FILE.with_metadata(metadata)))

    @classmethod
    def read(cls, place: Location) -> Pairs:
        """Read what `write` has written.

        Raises:
            StorageError: it cannot be read, or is another file.
        """
        if not place.exists():
            raise StorageError(f"{place.uri} is gone, and so is what is trained on; {_WAY_OUT}")
        table = place.read_table()
        if not table.schema.equals(_FILE):
            raise StorageError(f"{place.uri}: holds other columns than this version writes; {_WAY_OUT}")
        lists = table["captions"].combine_chunks()
        counts = lists.value_lengths().to_numpy(zero_copy_only=False)
        caption, level, weight = lists.flatten().flatten()
        return cls(
            np.repeat(np.arange(len(table), dtype=np.int32), counts),
            level.to_numpy(),
            weight.to_numpy(),
            caption,
            table.select(IMAGE).replace_schema_metadata(None).combine_chunks(),
            table["held_out"].to_numpy(),
            json.loads(table.schema.metadata[_METADATA])["left_out"],
        )


def most_of(reasons: Mapping[str, int]) -> str:
    """The most frequent reasons with their counts."""
    ordered = Counter(reasons).most_common()
    more = f"; {len(ordered) - _NAMED} other reasons" if len(ordered) > _NAMED else ""
    return "; ".join(f"{count:,} {reason}" for reason, count in ordered[:_NAMED]) + more
