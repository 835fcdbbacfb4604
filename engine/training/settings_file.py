"""settings.json of a model's directory: what its training began with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.encoders.names import EncoderName
from engine.errors import RecipeError
from engine.recipe.finetune import Finetune
from engine.storage import Location


@dataclass(frozen=True)
class Begun:
    """What decides the weights of a training.

    Attributes:
        settings: the recipe's section.
        seed: the run's.
        max_pixels: larger images are left out. None of trainings that began before it was kept.
        base: the digest of the files of the model that it began with. None as above.
    """

    settings: Finetune
    seed: int
    max_pixels: int | None = None
    base: str | None = None

    @classmethod
    def read(cls, place: Location) -> Begun:
        """Read what `write` has written; settings that the engine did not have then are by default.

        Raises:
            RecipeError: it is gone or damaged, or of a version that knows other settings.
        """
        if not place.exists():
            raise RecipeError(
                f"{place.uri} is gone, and so is what the checkpoints beside it were trained with; put it "
                "back, or choose another finetune.name"
            )
        try:
            stored = json.loads(place.read_bytes())
            pixels = stored.get("images", {}).get("max_pixels")
            settings = Finetune.model_validate(stored["finetune"])
            return cls(settings, int(stored["run"]["seed"]), pixels, stored.get("base"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecipeError(
                f"{place.uri}: cannot be understood ({type(error).__name__}: {str(error).splitlines()[0]}); "
                "put it back, go on with the version of Connote that wrote it, or choose another "
                "finetune.name"
            ) from error

    def write(self, place: Location) -> None:
        """Keep it beside the weights, with the digest of the model's files.

        Raises:
            RecipeError: there is no such model.
        """
        about = {**self.deciding(), "base": EncoderName.parse(self.settings.model).digest()}
        place.write_bytes(json.dumps(about, indent=1, ensure_ascii=False).encode())

    def check(self, now: Begun) -> None:
        """Refuse to go on with other settings.

        Raises:
            RecipeError: naming each that differs.
        """
        then = self if self.max_pixels is not None else Begun(self.settings, self.seed, now.max_pixels)
        check_settings(then.deciding(), now.deciding())

    def other_base(self, model: str) -> bool:
        """Whether a model's files are others than those that this training began with."""
        return self.base is not None and self.base != EncoderName.parse(model).digest()

    def deciding(self) -> Mapping[str, Any]:
        """As JSON has it, without the settings that change no weights."""
        chosen: dict[str, Any] = json.loads(self.settings.model_dump_json(exclude=set(self.settings.free)))
        return {"finetune": chosen, "run": {"seed": self.seed}, "images": {"max_pixels": self.max_pixels}}


def check_settings(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse settings that differ from those a training began with.

    Args:
        stored: the settings then, nested, as JSON has them.
        wanted: those now.

    Raises:
        RecipeError: naming each that differs, with both values.
    """
    old, new = dict(_leaves(stored)), dict(_leaves(wanted))
    changed = [
        f"{key} is {_shown(new, key)} (was {_shown(old, key)})"
        for key in sorted(old.keys() | new.keys())
        if key not in old or key not in new or old[key] != new[key]
    ]
    if changed:
        raise RecipeError(
            f"{', '.join(changed)}: this training began with other settings; set it back, choose another "
            "finetune.name, or start from these weights with finetune.start"
        )


def _leaves(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; tuples are lists, as in JSON, and 1 equals 1.0."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", json.loads(json.dumps(value))


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "not set"
