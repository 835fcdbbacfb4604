"""The directory of one fine-tuned model: RUN/models/<name>/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.encoders.fine_tuned_about import DONE, read_about
from engine.errors import RecipeError
from engine.recipe.finetune import Finetune
from engine.rundir import RunDirectory
from engine.storage import Location
from engine.training.settings_file import Begun

#: What makes a directory of files a checkpoint.
WHOLE = "checkpoint.json"


@dataclass(frozen=True)
class ModelDirectory:
    """Where a model, its checkpoints and its logs lie.

    Attributes:
        directory: RUN/models/<name>.
    """

    directory: Location

    @classmethod
    def of(cls, run: RunDirectory, settings: Finetune) -> ModelDirectory:
        """The directory that a recipe's settings name."""
        return cls(run.root / "models" / settings.directory)

    @property
    def pairs(self) -> Location:
        """The captions that are trained on and those held out."""
        return self.directory / "pairs.parquet"

    @property
    def checkpoints(self) -> Location:
        """The directory of the checkpoints."""
        return self.directory / "checkpoints"

    @property
    def settings(self) -> Location:
        """What decides the weights; see `Begun`."""
        return self.directory / "settings.json"

    def check(self, now: Begun) -> None:
        """Refuse to go on with other settings, or another model, than this training began with.

        Raises:
            RecipeError: naming each setting that differs.
        """
        if not self.begun():
            return
        then = Begun.read(self.settings)
        then.check(now)
        if not self.finished() and then.other_base(now.settings.model):
            raise RecipeError(
                f"finetune.model: '{now.settings.model}' is not what this training began with, its files "
                "have changed; put the old ones back, or choose another finetune.name"
            )

    def begun(self) -> bool:
        """Whether there are weights of this training; before that everything may still change.

        Without importing torch, which a driver that only begins does not need.
        """
        return self.finished() or bool(self.whole())

    def whole(self) -> list[str]:
        """The names of the checkpoints that say that they are whole."""
        names = [info.base_name for info in self.checkpoints.entries()]
        return [name for name in names if (self.checkpoints / name / WHOLE).exists()]

    def finished(self) -> bool:
        """Whether training is over."""
        return (self.directory / DONE).exists()

    def finish(self, about: Mapping[str, Any]) -> None:
        """Say what the directory holds, which ends the training."""
        (self.directory / DONE).write_bytes(json.dumps(about, indent=1, ensure_ascii=False).encode())

    def about(self) -> dict[str, Any]:
        """See `read_about`."""
        return read_about(self.directory)

    def lines(self) -> list[str]:
        """Where the model lies and what it reaches, for the terminal."""
        about = self.about()
        scores = about.get("validation") or {}
        told = "  ".join(f"{name} {100 * value:.1f} %" for name, value in scores.items() if "/" not in name)
        return [f"model      {self.directory.uri}" + (f": {told}" if told else "")]


def model_lines(run: RunDirectory) -> list[str]:
    """What each model of a run is, for `connote status`; without importing torch."""
    lines: list[str] = []
    for info in (run.root / "models").entries():
        place = ModelDirectory(run.root / "models" / info.base_name)
        if place.finished():
            lines += place.lines()
        elif not info.is_file:
            steps = [name for name in place.whole() if name.startswith("step-")]
            at = (
                f"at step {max(int(name.split('-')[1]) for name in steps):,}"
                if steps
                else "at no checkpoint yet"
            )
            lines.append(f"model      {place.directory.uri}: {at}; `connote finetune RECIPE` goes on")
    return lines
