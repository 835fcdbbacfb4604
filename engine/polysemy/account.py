"""Who counts in a measurement of polysemy and who does not: what result.json and the pages say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.embeddings import CaptionVectors, ImageVectors
from engine.errors import RecipeError
from engine.polysemy.radius import Curve
from engine.recipe import Polysemy

#: Reasons that result.json keeps; an encoder's own errors may be many.
_MOST_REASONS = 100


@dataclass(frozen=True)
class Gaps:
    """What some parts of a run have and lack.

    Attributes:
        images: with a vector of both encoders.
        excluded: the other images, by reason.
        captions: how many are empty or have no direction.
    """

    images: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    captions: int = 0

    @classmethod
    def of(
        cls, looks: ImageVectors, images: ImageVectors, captions: CaptionVectors, encoders: tuple[str, str]
    ) -> Gaps:
        """Those of one part; `encoders` are the names of those that made `looks` and `images`."""
        excluded = Counter[str]()
        bad = np.flatnonzero(~(looks.good & images.good))
        for row in bad.tolist():
            encoder, made = (encoders[1], images) if looks.good[row] else (encoders[0], looks)
            excluded[f"{encoder}: {made.errors[row]}"] += 1
        left_out = int(captions.counts.sum()) - len(captions.vectors)
        return cls(len(looks.good) - len(bad), excluded, left_out)

    @classmethod
    def joined(cls, pieces: Sequence[Gaps]) -> Gaps:
        """Those of different parts as one."""
        excluded = sum((piece.excluded for piece in pieces), Counter[str]())
        return cls(sum(piece.images for piece in pieces), excluded, sum(piece.captions for piece in pieces))


@dataclass(frozen=True)
class Queries:
    """How many of them there are.

    Attributes:
        drawn: among the images with a vector of `polysemy.image_encoder`.
        placed: of these, with a place on the map; all, where the radius counts neighbours.
        measured: of these, with a vector of `polysemy.text_encoder`; None where nobody knows yet.
    """

    drawn: int
    placed: int
    measured: int | None = None

    def unmeasured(self, settings: Polysemy) -> dict[str, int]:
        """Those that are not measured, by reason."""
        reasons = {
            "no place on the map": self.drawn - self.placed,
            f"no vector of '{settings.text_encoder}'": 0
            if self.measured is None
            else self.placed - self.measured,
        }
        return {reason: count for reason, count in reasons.items() if count}

    def check(self, settings: Polysemy) -> None:
        """Raises RecipeError where there are not two that can be measured."""
        count = self.placed if self.measured is None else self.measured
        if count >= 2:
            return
        why = []
        if self.drawn < settings.queries:
            why = [f"only {self.drawn:,} images have a vector of '{settings.image_encoder}'"]
        why += _listed(self.unmeasured(settings))
        raise RecipeError(
            f"polysemy: {count} of {self.drawn:,} queries can be measured, and 2 are needed"
            + (f": {', '.join(why)}" if why else "")
            + "; draw more (polysemy.queries), or name encoders that give these images vectors"
        )


def check_captions(curve: Curve, gaps: Gaps, text: str, settings: Polysemy) -> None:
    """Refuse captions that are around fewer than two queries.

    Raises:
        RecipeError: even the largest radius holds none.
    """
    count = int(np.isfinite(curve.caption_distance[:, -1]).sum())
    if count < 2:
        raise RecipeError(
            f"polysemy.texts: {count} of {len(curve.caption_distance):,} queries have {text} captions with a "
            f"vector of '{settings.text_encoder}' within the largest radius, and 2 are needed; "
            f"{gaps.captions:,} of the run's are empty or have no direction: leave {text} out, or name "
            "another text_encoder"
        )


def account(
    queries: Queries, others: int | None, gaps: Mapping[str, Gaps], settings: Polysemy
) -> dict[str, Any]:
    """What result.json says of who counts.

    Args:
        queries: how many there are.
        others: images that were found around a query at most; None where the radius is on the map.
        gaps: of the whole run, by the kind of captions.
        settings: the recipe's section.
    """
    images = next(iter(gaps.values()))
    return {
        "queries": queries.drawn,
        "measured": queries.measured,
        "unmeasured": queries.unmeasured(settings),
        "others": others,
        "images": images.images,
        "excluded": dict(images.excluded.most_common(_MOST_REASONS)),
        "captions_excluded": {text: found.captions for text, found in gaps.items() if found.captions},
    }


def notes(about: Mapping[str, Any], radii: Sequence[float]) -> list[str]:
    """What a reader of the curve must know: queries that are not measured, radii beyond the run's images.

    Args:
        about: the content of result.json; what older ones lack is not told.
        radii: of the curve.
    """
    lines = []
    if about.get("unmeasured"):
        why = ", ".join(_listed(about["unmeasured"]))
        lines.append(f"{about['measured']:,} of {about['queries']:,} queries are measured: {why}")
    others = about.get("others")
    beyond = [] if others is None else [f"{radius:g}" for radius in radii if radius > others]
    if len(beyond) == 1:
        lines.append(
            f"radius {beyond[0]} reaches beyond the run's {others:,} other images: it holds all of them"
        )
    elif beyond:
        named = f"{', '.join(beyond[:-1])} and {beyond[-1]}"
        lines.append(f"radii {named} reach beyond the run's {others:,} other images: they hold all of them")
    return lines


def left_out(about: Mapping[str, Any]) -> list[str]:
    """What of the run has no vector, whether near a query or not."""
    lines = []
    if about["excluded"]:
        why = ", ".join(_listed(dict(Counter(about["excluded"]).most_common(3))))
        lines.append(f"{sum(about['excluded'].values()):,} images lack a vector, and are no queries: {why}")
    for text, count in about["captions_excluded"].items():
        lines.append(f"{count:,} {text} captions are empty or have no direction, and are left out")
    return lines


def _listed(reasons: Mapping[str, int]) -> list[str]:
    return [f"{count:,} x {reason}" for reason, count in reasons.items()]
