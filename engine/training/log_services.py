"""Logs of services: W&B and MLflow. Neither package comes with the engine; both find their server,
and the key to it, in the environment of the workers."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

from engine.errors import RecipeError
from engine.recipe.finetune import Finetune
from engine.storage import Location
from engine.training.log_files import Kind

#: What MLflow does not take in the name of a figure.
_UNNAMED = re.compile(r"[^\w\-. /]")


def check_services(settings: Finetune) -> None:
    """Refuse a service whose package is not installed.

    Raises:
        RecipeError: with what to install.
    """
    for package in ("wandb", "mlflow"):
        if getattr(settings, package):
            _package(package)


class WandbLog:
    """A run of W&B; training that goes on logs to the same run.

    Figures are drawn over the training's step, not W&B's own, which cannot go back to where
    training goes on from.

    Args:
        directory: the model's; keeps the run's name for W&B.
        settings: with the project.

    Raises:
        Exception: whatever the package raises.
    """

    def __init__(self, directory: Location, settings: Finetune) -> None:
        note = directory / "wandb.txt"
        self._run: Any = _package("wandb").init(
            project=settings.wandb,
            name=settings.directory,
            id=_noted(note),
            resume="allow",
            config=settings.model_dump(mode="json"),
        )
        note.write_bytes(str(self._run.id).encode())
        for kind in ("train", "validation"):
            self._run.define_metric(f"{kind}/*", step_metric="step")

    def write(self, step: int, figures: Mapping[str, float], kind: Kind) -> None:
        """Send a row."""
        self._run.log({"step": step, **{f"{kind}/{name}": value for name, value in figures.items()}})

    def flush(self) -> None:
        """Nothing: W&B sends by itself."""

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()


class MlflowLog:
    """A run of MLflow; training that goes on logs to the same run.

    Args, Raises: as `WandbLog`.
    """

    def __init__(self, directory: Location, settings: Finetune) -> None:
        note = directory / "mlflow.txt"
        known = _noted(note)
        self._mlflow = _package("mlflow")
        self._mlflow.set_experiment(settings.mlflow)
        run = self._mlflow.start_run(run_id=known, run_name=settings.directory)
        if known is None:
            # MLflow refuses another value for what it knows, and some settings may change.
            told = settings.model_dump(mode="json")
            self._mlflow.log_params({name: str(value)[:500] for name, value in told.items()})
        note.write_bytes(str(run.info.run_id).encode())

    def write(self, step: int, figures: Mapping[str, float], kind: Kind) -> None:
        """Send a row."""
        named = {_UNNAMED.sub("_", f"{kind}/{name}"): value for name, value in figures.items()}
        self._mlflow.log_metrics(named, step=step)

    def flush(self) -> None:
        """Nothing: every row was sent."""

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


def _noted(note: Location) -> str | None:
    """The service's name of the run that this training logs to, if it has one."""
    return (note.read_text().strip() or None) if note.exists() else None


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RecipeError(
            f"finetune.{name}: the package {name} cannot be imported ({error}); install it on every node "
            f"with `uv pip install {name}`, or leave the setting out"
        ) from error
