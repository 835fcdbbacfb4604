"""Prompt files: a system text, a line `--- user ---`, and a user text with `$placeholders`.

`$image` alone marks where the image stands. The pieces around it are stripped, so that a prompt
file may be laid out for people. What decides an output is the file's text: it is fingerprinted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

from engine.errors import RecipeError, StorageError
from engine.generation.protocol import Picture, Request
from engine.recipe import Sampling
from engine.storage import locate

_DIVIDER = "--- user ---"
_IMAGE = "$image"


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt. `pieces` are the user text's templates; None stands for the image."""

    name: str
    text: str
    system: Template | None
    pieces: tuple[Template | None, ...]

    def request(
        self,
        values: Mapping[str, str],
        *,
        sampling: Sampling,
        seed: int,
        picture: Picture | None = None,
        schema: Mapping[str, Any] | None = None,
        probability_of: str | None = None,
    ) -> Request:
        """Fill the prompt with `values` and, where it stands in the text, the picture."""
        content: list[str | Picture] = []
        for piece in self.pieces:
            if piece is not None:
                content.append(piece.substitute(values))
            elif picture is not None:
                content.append(picture)
        return Request(
            task=self.name,
            content=tuple(content),
            sampling=sampling,
            seed=seed,
            system=self.system.substitute(values) if self.system else None,
            schema=schema,
            values=values,
            probability_of=probability_of,
        )


def load_prompt(name: str, override: str | None, allowed: Iterable[str], image: bool) -> Prompt:
    """Load the package's prompt `name`, or the file `override` instead of it.

    Args:
        name: the package's prompt, without its ending.
        override: a file on any filesystem, or in a package (`package:engine.terrarium/a.txt`).
        allowed: the placeholders the stage fills; each is optional in the text.
        image: whether the stage shows the image.

    Raises:
        RecipeError: the file cannot be read, or uses a placeholder that the stage does not fill,
            or has no `$image` where the model must see it.
    """
    origin = override or f"package:engine.generation/prompts/{name}.txt"
    return parse_prompt(name, _read(name, origin), set(allowed), image, origin)


def _read(name: str, origin: str) -> str:
    """The text of a file, or of one that lies in a package (`package:engine.terrarium/...`)."""
    try:
        if origin.startswith("package:"):
            package, _, path = origin.removeprefix("package:").partition("/")
            return (files(package) / path).read_text("utf-8")
        return locate(origin).read_text()
    except StorageError as error:
        raise RecipeError(f"prompt {name}: {error}; name a text file") from error
    except (OSError, ImportError, TypeError, ValueError) as error:
        # TypeError and ValueError: `package:` with a module name that is empty or no package.
        raise RecipeError(f"prompt {name}: {origin} cannot be read ({error}); name a text file") from error


def parse_prompt(name: str, text: str, allowed: set[str], image: bool, origin: str = "") -> Prompt:
    """Parse the text of a prompt file; see `load_prompt`."""
    origin = origin or name
    head, divider, user = text.partition(_DIVIDER)
    if not divider:
        raise RecipeError(f"prompt {origin}: the line `{_DIVIDER}` before the user's text is missing")
    if (_IMAGE in user) != image:
        verb = "needs" if image else "cannot use"
        raise RecipeError(f"prompt {origin}: {verb} {_IMAGE} in the user's text")
    pieces: list[Template | None] = []
    for index, piece in enumerate(user.split(_IMAGE)):
        if index:
            pieces.append(None)
        if piece.strip():
            pieces.append(Template(piece.strip()))
    system = Template(head.strip()) if head.strip() else None
    for template in (system, *pieces):
        if template is not None:
            _check(template, origin, allowed)
    return Prompt(name=name, text=text, system=system, pieces=tuple(pieces))


def _check(template: Template, origin: str, allowed: set[str]) -> None:
    if not template.is_valid():
        raise RecipeError(f"prompt {origin}: a lone $; write $$ for the sign itself")
    unknown = sorted(set(template.get_identifiers()) - allowed)
    if unknown:
        known = ", ".join(f"${name}" for name in sorted(allowed))
        raise RecipeError(f"prompt {origin}: ${unknown[0]} is not filled here; use {known}")
