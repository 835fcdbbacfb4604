"""The model card of a fine-tuned CLIP: what it was trained on, with which settings, what it reaches."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from engine.encoders.names import EncoderName
from engine.recipe.finetune import Finetune
from engine.schema import LEVELS
from engine.training.card_loading import how_to_load
from engine.training.pairs_file import Pairs

#: Names of a hub, which a card may name as the base model.
_ON_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_LIBRARIES = {"open_clip": "open_clip", "hf": "transformers", "method": "connote"}


@dataclass(frozen=True)
class DataFacts:
    """What a model was trained on, and compared with.

    Attributes:
        images: that were trained on.
        captions: that were trained on, by level; `original` are those that came with the images.
        held_out: images that were held out.
        compared: held-out captions that were compared, by level; of at most so many images as the
            recipe says.
    """

    images: int
    captions: Mapping[str, int]
    held_out: int
    compared: Mapping[str, int]

    @classmethod
    def of(cls, pairs: Pairs, validation_images: int) -> DataFacts:
        """Of a run's pairs, of which at most so many held-out images are compared."""
        held = int(pairs.held_out.sum())
        trained, compared = pairs.training(), pairs.validation(validation_images)
        return cls(len(pairs.images) - held, _by_level(pairs, trained), held, _by_level(pairs, compared))


def model_card(settings: Finetune, facts: DataFacts, about: Mapping[str, Any]) -> str:
    """The text of README.md: Hugging Face's YAML header, then the description.

    Args:
        settings: the recipe's section.
        facts: of the data.
        about: what `connote.json` will say: `form` (open_clip, hf or method), `steps`, `steps_in_all`
            where these are others, `bad_batches`, `vectors`, `levels`, `logit_bias`, `interpolation`, and
            the recalls `before` training and at its end (`validation`), in 0 to 1, named `t2i R@1` over all
            levels and `LEVEL/t2i R@1`.
    """
    header = yaml.safe_dump(_header(settings, about["form"]), sort_keys=False, allow_unicode=True)
    sections = [
        f"---\n{header}---",
        f"# A CLIP fine-tuned by method {settings.method}",
        _summary(settings, facts, about),
        "## Recall",
        _recall(about.get("before") or {}, about.get("validation") or {}, facts),
        "## Data",
        _table(("level", "captions trained on", "held-out captions compared"), _counts(facts)),
        f"{facts.images:,} images were trained on, {facts.held_out:,} held out with their captions.",
        "## Settings",
        _settings(settings),
        "## How to load it",
        how_to_load(settings, about),
    ]
    return "\n\n".join(sections) + "\n"


def _header(settings: Finetune, form: str) -> dict[str, Any]:
    header: dict[str, Any] = {"library_name": _LIBRARIES[form], "tags": ["connote", "clip", settings.method]}
    if base := _base_model(settings.model):
        header |= {
            "base_model": base,
            "base_model_relation": "adapter" if form == "method" else "finetune",
        }
    if form != "method":
        header["pipeline_tag"] = "zero-shot-image-classification"
    return header


def _base_model(model: str) -> str | None:
    """The hub's name of the model that training began with, if it has one."""
    name = EncoderName.parse(model)
    if name.files() or Path(name.model).expanduser().exists():
        return None
    hub = name.model
    if name.backend == "open_clip":
        import open_clip  # takes seconds, and has been imported by whoever trained

        architecture, _, tag = name.model.rpartition("/")
        hub = "/".join(open_clip.get_pretrained_cfg(architecture, tag).get("hf_hub", "").split("/")[:2])
    return hub if _ON_HUB.fullmatch(hub) else None


def _summary(settings: Finetune, facts: DataFacts, about: Mapping[str, Any]) -> str:
    captions = sum(facts.captions.values())
    text = (
        f"It began as {_code(settings.model)} and was trained with Connote for {about['steps']:,} steps on "
        f"{captions:,} captions of {facts.images:,} images."
    )
    if total := about.get("steps_in_all"):
        text += f" Training went on to step {total:,}; this was the best of its validations on the way."
    if len(stretches := about.get("workers") or []) > 1:
        # Each count adds up the gradient's parts in another order.
        counts = ", ".join(f"{each['workers']} from step {each['from']:,}" for each in stretches)
        text += f" The number of workers changed on the way: {counts}."
    if bad := about.get("bad_batches"):
        text += f" {bad:,} batches without a finite loss were left out."
    if found := about.get("interpolation"):
        tried = ", ".join(f"{share:g}" for share, _ in found["tried"])
        text += (
            f" Its weights are {found['share']:g} of the tuned ones and the rest of those it began with (of "
            f"{tried}, the best on the held-out images)."
        )
    if (bias := about.get("logit_bias")) is not None:
        text += (
            f" The loss learned a bias of the logits, {bias:.4g}, which the weights here have no place for: "
            "cosines, and so retrieval, do not need it; a probability to match is the sigmoid of the scaled "
            "cosine plus this bias."
        )
    return text


def _recall(before: Mapping[str, float], after: Mapping[str, float], facts: DataFacts) -> str:
    if not before and not after:
        return "No images were held out, and nothing was measured."
    figures = list(dict.fromkeys(name.rpartition("/")[2] for name in (*before, *after)))
    levels = dict.fromkeys(name.rpartition("/")[0] for name in (*before, *after))
    rows = []
    for level in sorted(levels, key=_rank):
        names = [f"{level}/{figure}" if level else figure for figure in figures]
        cells = (f"{_percent(before.get(name))} → {_percent(after.get(name))}" for name in names)
        rows.append((level or "all", *cells))
    return (
        "In percent, before training → after it. t2i: a caption finds its image; i2t: an image finds one of "
        f"its captions; each among the held-out ones ({sum(facts.compared.values()):,} captions).\n\n"
        + _table(("level", *figures), rows)
    )


def _percent(value: float | None) -> str:
    return f"{100 * value:.1f}" if value is not None and math.isfinite(value) else "–"


def _counts(facts: DataFacts) -> Iterator[tuple[str, ...]]:
    for level in sorted({**facts.captions, **facts.compared}, key=_rank):
        yield level, f"{facts.captions.get(level, 0):,}", f"{facts.compared.get(level, 0):,}"


def _rank(level: str) -> int:
    """All levels together first, then captions that came with the images, then by distance."""
    return LEVELS.index(level) if level in LEVELS else -1 if level else -2


def _settings(settings: Finetune) -> str:
    usual = Finetune.model_validate({"model": settings.model, "method": settings.method})
    given, default = (dict(_flat(each.model_dump(mode="json"))) for each in (settings, usual))
    rows = [
        (name, _code(json.dumps(value, ensure_ascii=False)), _code(json.dumps(default.get(name))))
        for name, value in given.items()
        if value != default.get(name) and name not in settings.free
    ]
    if not rows:
        return f"All that decide the weights are the defaults of method {settings.method}."
    return _table(("setting of `finetune`", "here", f"default of {settings.method}"), rows)


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names; weights by level stay one setting."""
    for name, value in tree.items():
        if isinstance(value, dict) and name != "weights":
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def _by_level(pairs: Pairs, chosen: NDArray[np.int64]) -> dict[str, int]:
    numbers, counts = np.unique(pairs.level[chosen], return_counts=True)
    names = (LEVELS[number] if number >= 0 else "original" for number in numbers.tolist())
    return dict(zip(names, counts.tolist(), strict=True))


def _code(text: str) -> str:
    """Any text as one span of code, in which no mark-up is read."""
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join(lines)
