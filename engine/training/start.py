"""`finetune.start`: the weights of a model that was fine-tuned before, to go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from engine.encoders.fine_tuned_about import trained_levels
from engine.errors import RecipeError, StorageError
from engine.recipe.finetune import Finetune, MethodName
from engine.schema import LEVELS
from engine.storage import locate
from engine.training.model_directory import ModelDirectory
from engine.training.settings_file import Begun

if TYPE_CHECKING:  # the driver, which checks, does not import torch
    from torch import Tensor

    from engine.training.world import World

#: Settings that decide which weights there are, or what they do, by method.
_SHAPING: dict[MethodName, tuple[str, ...]] = {
    "full": ("towers",),
    "lora": ("towers", "adapter.rank", "adapter.alpha"),
    "prefix": (),
    "pvse": ("adapter.rank", "adapter.alpha", "adapter.embeddings"),
    "pcme": ("adapter.rank", "adapter.alpha"),
    "dive": ("adapter.rank", "adapter.alpha", "adapter.embeddings"),
}


def check_start(settings: Finetune) -> None:
    """Refuse a directory whose weights these settings cannot go on with; nothing is loaded.

    Raises:
        RecipeError: it has no checkpoint, or is of another method, model, shape or kind of loss, or mixed
            with what it began with.
    """
    if settings.start is None:
        return
    place = ModelDirectory(locate(settings.start))
    here = f"finetune.start: {place.directory.uri}"
    if not place.whole():
        raise _none(here)
    begun = Begun.read(place.settings)
    then = begun.settings
    if then.method != settings.method or begun.other_base(settings.model):
        raise RecipeError(
            f"{here} trains {then.model} by method {then.method}; its weights fit that model and that method "
            "only"
        )
    for name in _SHAPING[settings.method]:
        if (old := _setting(then, name)) != (new := _setting(settings, name)):
            raise RecipeError(
                f"{here} was trained with finetune.{name} {old}, and here it is {new}; set it to that: its "
                "weights fit no other"
            )
    if (then.loss == "sigmoid") != (settings.loss == "sigmoid"):
        raise RecipeError(
            f"{here} was trained with finetune.loss {then.loss}, and here it is {settings.loss}; set it to "
            "that, or name the finished model as finetune.model (full, lora): the bias that sigmoid may "
            "learn beside a model's weights fits no other loss"
        )
    if then.interpolate:
        raise RecipeError(
            f"{here} was interpolated, and its checkpoints were not; name what it holds as finetune.model: "
            f"open_clip:{place.directory.uri}/open_clip_config.json/open_clip_model.safetensors"
        )


def start_weights(settings: Finetune, world: World, tell: Callable[[str], None]) -> dict[str, Tensor]:
    """The weights to go on from; of averaged ones the average. The same on every worker.

    Args:
        settings: with `start`.
        world: the workers, of which the first one chooses the checkpoint.
        tell: takes lines for the user.

    Raises:
        RecipeError: see `check_start`; or no checkpoint is whole any more.
    """
    from engine.training.checkpoint import Checkpoints
    from engine.training.checkpoint_files import read

    assert settings.start is not None
    check_start(settings)
    place = ModelDirectory(locate(settings.start))
    found = None
    if world.first:
        kept = Checkpoints(place.checkpoints, 1, tell)
        best = Begun.read(place.settings).settings.select == "best"
        found = (kept.best() if best else None) or kept.newest()
    name = world.share(found.directory.name if found else None)
    if name is None:
        raise _none(f"finetune.start: {place.directory.uri}")
    if world.first:
        tell(f"starting from {place.directory.uri}, {name}")
    found = found or read(place.checkpoints / name)
    average = found.state["average"]
    return dict(average["averages"]) if average else found.weights


def take_start(
    own: Mapping[str, Tensor], settings: Finetune, world: World, tell: Callable[[str], None]
) -> None:
    """Overwrite the weights that are trained by those of `start_weights`.

    Raises:
        RecipeError: see `start_weights`.
        StorageError: names or shapes differ; nothing has been changed.
    """
    from engine.training.tensors import take

    assert settings.start is not None
    other = "finetune.start must be of the same method, model, loss and adapter; name another directory there"
    take(own, start_weights(settings, world, tell), settings.start, other)


def learned_levels(settings: Finetune) -> tuple[str, ...]:
    """The levels that `prefix` has learned, here or in the model that it started from; nearest first."""
    before: tuple[str, ...] = ()
    if settings.start:
        place = ModelDirectory(locate(settings.start))
        try:
            then = {"settings": Begun.read(place.settings).settings.model_dump(mode="json")}
            before = trained_levels(place.about() if place.finished() else then)
        except (RecipeError, StorageError):
            # Gone since: a training that is over must not fail by it, nor refuse what it may have learned.
            before = LEVELS
    return tuple(level for level in LEVELS if level in (*before, *settings.data.levels))


def _none(here: str) -> RecipeError:
    return RecipeError(f"{here} holds no whole checkpoint; name a directory under RUN/models")


def _setting(settings: Finetune, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return list(value) if isinstance(value, tuple) else value
