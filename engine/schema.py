"""The Arrow schema of every table, and the five levels of abstraction.

Every table of a part has one row per sample, in catalog order, and starts with `id` and `key`.
Stage tables end with `error`: null when the row is good, else the reason.
"""

from __future__ import annotations

import pyarrow as pa

#: Distance 1 to 5 of the associations paper (METHODS A2, stage 2): near synonym, broader
#: category, situational or emotional context, concept or theme, fully abstract or metaphorical.
LEVELS: tuple[str, ...] = ("synonym", "broader", "context", "concept", "metaphor")

#: The parts of speech a salient element may have (METHODS A2, stage 1b).
PARTS_OF_SPEECH: tuple[str, ...] = ("noun", "verb", "adjective")

_STRINGS = pa.list_(pa.string())

#: One row per sample. `uri` names the file that holds the image. What `offset` and `size` mean
#: depends on the shard's format: bytes in the file (tar, folder, coco), bytes in the decompressed
#: stream (tar.gz), row number and byte length (parquet). `offset` is null where the sample has
#: no image; `extra` is a JSON object with every other field of the source.
CATALOG = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("captions", _STRINGS, nullable=False),
        pa.field("extra", pa.string()),
        pa.field("error", pa.string()),
    ]
)

#: One row per part: `rows` consecutive samples of the catalog table `catalog` from row `start`.
PLAN = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("catalog", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)

_ID = pa.field("id", pa.string(), nullable=False)
_KEY = pa.field("key", pa.string(), nullable=False)
_ERROR = pa.field("error", pa.string())

DESCRIBE = pa.schema([_ID, _KEY, pa.field("description", pa.string()), _ERROR])

#: One salient element: its associations at each level (three words by default), or in `flag`
#: the reason why it has none.
ELEMENT = pa.struct(
    [
        pa.field("element", pa.string()),
        pa.field("pos", pa.string()),
        *(pa.field(level, _STRINGS) for level in LEVELS),
        pa.field("flag", pa.string()),
    ]
)

ASSOCIATE = pa.schema([_ID, _KEY, pa.field("elements", pa.list_(ELEMENT)), _ERROR])

#: One caption: written for `element` at `level` to contain `association`. `flag` is null when it
#: passed every check, else the reason why the attempt that is kept did not; `attempts` counts all.
CAPTION_ITEM = pa.struct(
    [
        pa.field("element", pa.string()),
        pa.field("level", pa.string()),
        pa.field("association", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("attempts", pa.int32()),
        pa.field("flag", pa.string()),
    ]
)

#: Named `creative_captions` because `captions` are the ones the source came with.
CAPTION = pa.schema([_ID, _KEY, pa.field("creative_captions", pa.list_(CAPTION_ITEM)), _ERROR])

#: For each caption of the image, in order, the probability that they match; null where there is none.
VQASCORE = pa.schema([_ID, _KEY, pa.field("scores", pa.list_(pa.float32())), _ERROR])


def images_schema(number: pa.DataType, width: int, vectors: int) -> pa.Schema:
    """`vector`: one image's vector, or the `vectors` that a caption is compared with (BLIP-2)."""
    kind = pa.list_(number, width)
    vector = pa.field("vector", kind if vectors == 1 else pa.list_(kind, vectors))
    return pa.schema([_ID, _KEY, vector, _ERROR])


def captions_schema(number: pa.DataType, width: int, vectors: int = 1) -> pa.Schema:
    """`vectors`: for each caption of the image, in order, its vector, or several; null where it has none."""
    kind = pa.list_(number, width)
    column = pa.field("vectors", pa.list_(kind if vectors == 1 else pa.list_(kind, vectors)))
    return pa.schema([_ID, _KEY, column, _ERROR])


def cluster_schema(dimensions: int) -> pa.Schema:
    """Where each image lies: on the map (`x`, `y`), in the space that was clustered, in which cluster.

    `label` is -1 for noise; `strength` and `outlier` go from 0 to 1; `fitted` tells the images that
    the clusters were made of from those that were placed among them.
    """
    numbers = [pa.field(name, pa.float32()) for name in ("x", "y")]
    space = pa.field("space", pa.list_(pa.float32(), dimensions))
    scores = [pa.field(name, pa.float32()) for name in ("strength", "outlier")]
    label, fitted = pa.field("label", pa.int32()), pa.field("fitted", pa.bool_())
    return pa.schema([_ID, _KEY, *numbers, space, label, *scores, fitted, _ERROR])


#: One row per cluster, the largest first; label -1 is noise. Exemplars are ids of samples at the
#: cluster's densest; `keys` are theirs.
CLUSTERS = pa.schema(
    [
        pa.field("label", pa.int32(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("share", pa.float64(), nullable=False),
        pa.field("persistence", pa.float64()),
        pa.field("strength", pa.float64(), nullable=False),
        pa.field("x", pa.float64()),
        pa.field("y", pa.float64()),
        pa.field("exemplars", _STRINGS, nullable=False),
        pa.field("keys", _STRINGS, nullable=False),
        pa.field("terms", _STRINGS, nullable=False),
    ]
)


def storable(text: str) -> str:
    """The text with what UTF-8, and so Arrow, cannot hold (halves of surrogate pairs) replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
