"""How similar the captions of one image are to each other, pair by pair: by vectors, or by BERTScore.

IMP measures polysemy by it, too: the less similar the captions of an image are, the more it can mean.
A pair is two captions of one image, in no order. The image itself is not looked at, and a caption
counts wherever it has a vector, or a token; an empty one has neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.embeddings import VectorTables
from engine.evaluation.bertscore_name import BertScoreName
from engine.evaluation.caption_texts import CaptionTexts, TextReader
from engine.storage import digest_settings

if TYPE_CHECKING:  # which takes seconds to import, and status compares nothing
    from torch import Tensor

#: Pairs that are compared at once.
BLOCK = 1024

#: Pairs by their image, a number among those of the parts, and how similar they are: (n,) and (n,).
Block = tuple[NDArray[np.int64], NDArray[np.float64]]


class Compared(Protocol):
    """The captions of a set, as one encoder compares them."""

    def state(self, plan: pa.Table) -> str:
        """A digest of all that decides the similarities."""
        ...

    def compare(self, rows: Sequence[Mapping[str, Any]], device: str) -> Iterator[Block]:
        """The similarities of all pairs of these parts (rows of the plan), block by block.

        Images are numbered through the parts, and pairs come in the order of their images. A
        similarity that cannot be told is nan.

        Raises:
            StorageError: a table is not there, or is not what its fingerprint says.
            RecipeError: a model cannot be had.
        """
        ...


@dataclass(frozen=True)
class ByVectors:
    """Cosines of the captions' vectors, which are in the run.

    Attributes:
        vectors: of the captions.
        texts: the captions themselves, where only some of the mined ones count.
    """

    vectors: VectorTables
    texts: CaptionTexts | None = None

    def state(self, plan: pa.Table) -> str:
        """See `Compared.state`."""
        told = self.texts.state(plan) if self.texts else plan["part"].to_pylist()
        return digest_settings({"vectors": self.vectors.state(plan), "captions": told})

    def compare(self, rows: Sequence[Mapping[str, Any]], device: str) -> Iterator[Block]:
        """See `Compared.compare`; -1 to 1. The device is not used: reading takes longer than the rest."""
        reader, before = TextReader(self.texts) if self.texts else None, 0
        for row in rows:
            captions = self.vectors.captions(row["part"])
            owners = np.repeat(np.arange(len(captions.counts)), np.diff(captions.offsets))
            vectors = captions.vectors
            if reader is not None:
                told = reader.part(row)
                kept = told.kept[told.starts[owners] + captions.places]
                owners, vectors = owners[kept], vectors[kept]
            for first, second in pair_blocks(owners):
                yield before + owners[first], cosines(vectors[first], vectors[second])
            before += row["rows"]


@dataclass(frozen=True)
class ByTokens:
    """BERTScore F1 of the captions' texts."""

    model: BertScoreName
    texts: CaptionTexts

    def state(self, plan: pa.Table) -> str:
        """See `Compared.state`."""
        return digest_settings({"model": self.model.digest(), "captions": self.texts.state(plan)})

    def compare(self, rows: Sequence[Mapping[str, Any]], device: str) -> Iterator[Block]:
        """See `Compared.compare`; 0 to 1."""
        from engine.evaluation.bertscore import TokenModel, f1

        model, reader, before = TokenModel(self.model, device), TextReader(self.texts), 0
        for row in rows:
            told = reader.part(row)
            captions = told.texts.to_pylist()
            some = np.array([i for i in np.flatnonzero(told.kept) if (captions[i] or "").strip()], np.int64)
            texts, owners = [captions[i] for i in some], told.owners[some]
            known: dict[str, Tensor] = {}
            for first, second in pair_blocks(owners):
                wanted = dict.fromkeys(texts[i] for i in np.union1d(first, second))
                # An image's captions may be in two blocks, and need not be read twice.
                new = [text for text in wanted if text not in known]
                known = {text: known[text] for text in wanted if text in known}
                known.update(zip(new, model.tokens(new), strict=True))
                ones, others = ([known[texts[i]] for i in side] for side in (first, second))
                yield before + owners[first], f1(ones, others)
            before += row["rows"]


def pair_blocks(
    owners: NDArray[np.int64], size: int = BLOCK
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of captions of one image, each once, as rows of the captions.

    Args:
        owners: (m,), ascending: the image of each caption.
        size: pairs of a block; more only where one caption has more partners.
    """
    rows = np.arange(len(owners))
    behind = np.searchsorted(owners, owners, side="right") - rows - 1
    ends, start = np.cumsum(behind), 0
    while start < len(owners):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + size, side="right")))
        counts = behind[start:stop]
        first = np.repeat(rows[start:stop], counts)
        place = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        if len(first):
            yield first, first + 1 + place
        start = stop


def cosines(ones: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """(n,), -1 to 1, of (n, d) and (n, d) vectors of any length but 0.

    Stored vectors in low precision are not quite of length 1, so equal ones would not have cosine 1.
    """
    one, other = ones.astype(np.float64), others.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    found: NDArray[np.float64] = np.einsum("nd,nd->n", one, other) / lengths
    return found.clip(-1, 1)
