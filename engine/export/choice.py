"""Which captions of a sample an export holds, and what it leaves out and why."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.export.mined import MinedRun, MinedSample, SampleReader
from engine.export.settings import ExportSettings
from engine.generation.protocol import derive_seed
from engine.schema import LEVELS


@dataclass(frozen=True)
class ChosenCaption:
    """One caption. A caption of the source has neither element nor level nor association.

    `distance` is the level's number: 1 (synonym) to 5 (metaphor).
    """

    caption: str
    source: str  # mined, original
    element: str | None = None
    level: str | None = None
    distance: int | None = None
    association: str | None = None
    attempts: int | None = None
    flag: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The caption as columns."""
        return asdict(self)


@dataclass(frozen=True)
class ChosenSample:
    """A sample with its captions, at least one; `drawn` is the one that the seed chose."""

    sample: MinedSample
    captions: tuple[ChosenCaption, ...]
    drawn: ChosenCaption


@dataclass
class Counts:
    """What an export wrote and left out; filled while the samples go by."""

    images: int = 0
    captions: int = 0
    levels: Counter[str] = field(default_factory=Counter)  # captions written, by level or `original`
    flagged: Counter[str] = field(default_factory=Counter)  # captions left out, by flag
    left_out: Counter[str] = field(default_factory=Counter)  # images left out, by reason

    def add(self, chosen: ChosenSample) -> None:
        """Count a sample that was written."""
        self.images += 1
        self.captions += len(chosen.captions)
        self.levels.update(caption.level or caption.source for caption in chosen.captions)

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON, the same for the same run."""
        return {
            name: dict(sorted(value.items())) if isinstance(value, Counter) else value
            for name, value in vars(self).items()
        }


def chosen_samples(
    run: MinedRun, settings: ExportSettings, counts: Counts, images: bool
) -> Iterator[ChosenSample]:
    """The samples of a run with the captions to export, in the plan's order.

    Samples without any go to `counts.left_out`; the writer counts what it writes. With `images`
    the samples come with their encoded bytes, and those without bytes are left out.
    """
    reader = SampleReader(run, images)
    for row in run.parts():
        for sample in reader.part(row):
            chosen, reason = choose(sample, settings, run.recipe.run.seed, counts)
            if chosen is not None and images and not sample.image:
                chosen, reason = None, "its image cannot be read"
            if chosen is None:
                counts.left_out[reason] += 1
            else:
                yield chosen


def choose(
    sample: MinedSample, settings: ExportSettings, seed: int, counts: Counts
) -> tuple[ChosenSample | None, str]:
    """The sample's captions by the settings, or None and the reason why it has none.

    A sample that could not be described has no caption of either source: its image may be one
    that no loader can decode, and a trainer stops at it.
    """
    if reason := sample.why_not("describe"):
        return None, reason
    captions: list[ChosenCaption] = []
    reason = "no caption in the source"
    if settings.captions in ("original", "both"):
        captions += [ChosenCaption(text, "original") for text in sample.captions if text.strip()]
    if settings.captions in ("mined", "both"):
        failed = sample.why_not("describe", "associate", "caption")
        captions += _mined(sample, settings.flagged, counts)
        reason = failed or "every caption failed a check"
    if not captions:
        return None, reason
    drawn = random.Random(derive_seed(seed, sample.id, "export")).choice(captions)
    return ChosenSample(sample, (drawn,) if settings.draw else tuple(captions), drawn), ""


def _mined(sample: MinedSample, flagged: bool, counts: Counts) -> list[ChosenCaption]:
    chosen = []
    for item in sample.creative_captions or ():
        if not item["caption"] or (item["flag"] and not flagged):
            counts.flagged[item["flag"] or "empty caption"] += 1
            continue
        distance = LEVELS.index(item["level"]) + 1
        chosen.append(ChosenCaption(source="mined", distance=distance, **item))
    return chosen
