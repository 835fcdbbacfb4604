"""embed: the vectors that one encoder gives images or captions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.catalog.extra import texts_in
from engine.decoding import Look
from engine.encoders import EncoderName
from engine.encoders.card import read_card
from engine.errors import SampleError
from engine.recipe import Embed
from engine.recipe.texts import field_of
from engine.schema import captions_schema, images_schema
from engine.stages.stage import Row, Tally
from engine.storage import digest_of

if TYPE_CHECKING:  # torch takes seconds to import, and status does not compute
    from engine.encoders.bank import EncoderBank
    from engine.generation.protocol import Picture

#: Why an image has no vector although it was decoded and the model ran.
NO_DIRECTION = "the encoder gave no direction (zero, NaN or infinite)"
#: What is counted of captions that the encoder reads the beginning of.
TOO_LONG = "longer than the encoder reads, and cut"

#: `images`, or one of `embed.texts`: original, mined, field:NAME.
Of = str
_Given = NDArray[Any] | list[NDArray[Any]]


@dataclass(frozen=True)
class EmbedStage:
    """Gives each image, or each of its captions, its vector or vectors by one encoder.

    One stage for each encoder and each of what it embeds: another encoder, or another caption
    prompt, leaves the vectors that do not depend on it as they are.

    Attributes:
        settings: the recipe's section.
        encoder: whose vectors.
        of: what is embedded: images, the captions they came with, those that were mined, or the texts in
            a field of the source's records.
        max_pixels: larger images are refused.
        name: of the stage.
        fingerprint: see `Stage`.
    """

    settings: Embed
    encoder: EncoderName
    of: Of
    max_pixels: int
    name: str
    fingerprint: str

    engine = "embed"
    carries = False

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Stage.needs`."""
        return ("caption",) if self.of == "mined" else ()

    @property
    def sees_images(self) -> bool:
        """See `Stage.sees_images`."""
        return self.of == "images"

    @property
    def look(self) -> Look:
        """Images at the size that the encoder's preprocessing needs, or at their own."""
        side = read_card(self.encoder).side if self.settings.decode == "reduced" else 0
        return Look(self.max_pixels, at_least=side)

    @property
    def rows_at_once(self) -> int:
        """Images of one forward pass; captions are cut into batches of their own."""
        return self.settings.batch if self.sees_images else 0

    @property
    def schema(self) -> pa.Schema:
        """The schema of its table, with the vectors' width."""
        card, number = read_card(self.encoder), pa.type_for_alias(self.settings.dtype)
        if self.sees_images:
            return images_schema(number, card.width, card.vectors)
        return captions_schema(number, card.width, card.text_vectors)

    async def run(
        self, rows: Sequence[Row], pictures: Sequence[Picture | None], bank: EncoderBank, tally: Tally
    ) -> list[dict[str, Any]]:
        """Embed the images or captions of each row; see `Stage.run`."""
        if not self.sees_images:
            return await self._texts(rows, bank, tally)
        vectors = await bank.embed_images(self.encoder, [picture.image for picture in pictures if picture])
        tally.requests += len(vectors)
        made = [{"error": NO_DIRECTION} if vector is None else _row(vector) for vector in self._kept(vectors)]
        tally.count("vectors", sum(row["error"] is None for row in made))
        return made

    async def _texts(self, rows: Sequence[Row], bank: EncoderBank, tally: Tally) -> list[dict[str, Any]]:
        """The vectors of each row's captions; a row whose captions cannot be told has the reason."""
        captions, errors = list[list[str]](), dict[int, str]()
        for number, row in enumerate(rows):
            try:
                captions.append(texts_of(row, self.of))
            except SampleError as error:
                captions.append([])
                errors[number] = str(error)
        made = await self._captions(captions, bank, tally)
        return [{"error": errors[number]} if number in errors else row for number, row in enumerate(made)]

    async def _captions(
        self, captions: Sequence[Sequence[str]], bank: EncoderBank, tally: Tally
    ) -> list[dict[str, Any]]:
        """For each row what each caption has, null where it is empty or has no direction."""
        texts = [text for row in captions for text in row]
        # Of like lengths together: a short one beside a long one is padded to it.
        order = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: len(texts[i]))
        made: list[_Given | None] = [None] * len(texts)
        for start in range(0, len(order), self.settings.batch):
            some = order[start : start + self.settings.batch]
            vectors = await bank.embed_texts(self.encoder, [texts[i] for i in some])
            tally.flag(TOO_LONG, await bank.longer(self.encoder, [texts[i] for i in some]))
            for i, kept in zip(some, self._kept(vectors), strict=True):
                made[i] = None if kept is None else _given(kept)
        tally.requests += len(order)
        tally.count("vectors", sum(vector is not None for vector in made))
        for text, vector in zip(texts, made, strict=True):
            if vector is None:
                tally.flag(NO_DIRECTION if text.strip() else "empty caption")
        taken = iter(made)
        return [{"vectors": [next(taken) for _ in row], "error": None} for row in captions]

    def _kept(self, vectors: NDArray[np.float32]) -> list[NDArray[Any] | None]:
        """The vectors as they are stored, None where there is no direction."""
        # What is not of unit length may be too long for half precision, and is then as good as infinite.
        with np.errstate(over="ignore"):
            stored = vectors.astype(self.settings.dtype)
        good = [bool(np.isfinite(vector).all()) for vector in stored]
        return [vector if fine else None for vector, fine in zip(stored, good, strict=True)]


def _row(vector: NDArray[Any]) -> dict[str, Any]:
    return {"vector": _given(vector), "error": None}


def _given(vector: NDArray[Any]) -> _Given:
    """(width,), or a list of such: Arrow takes no arrays of two axes."""
    return vector if vector.ndim == 1 else list(vector)


def texts_of(row: Row, of: Of) -> list[str]:
    """The captions of a sample: those it came with, those that were mined, or those in a field.

    Raises:
        SampleError: the field holds no texts.
    """
    if of == "original":
        return list(row["captions"])
    if (field := field_of(of)) is not None:
        return texts_in(row["extra"], field)
    return [item["caption"] or "" for item in row["creative_captions"] or []]


def stage_name(encoder: EncoderName, of: Of) -> str:
    """`embed-images-...`: what a person recognises of the encoder; the fingerprint tells it apart."""
    readable = "-".join(encoder.text.replace(":", "/").split("/")[-2:])
    return f"embed-{_readable_text(of)}-" + re.sub(r"[^A-Za-z0-9_.]+", "-", readable).strip("-.")


def _readable_text(of: Of) -> str:
    """`field-NAME` of a field, with a digest where its name cannot be that of a directory as it stands."""
    field = field_of(of)
    if field is None:
        return of
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", field).strip("-.")[:40]
    return f"field-{plain}" if plain == field else f"field-{plain}-{digest_of(field)[:6]}"
