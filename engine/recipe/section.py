"""What every section of a recipe has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the recipe: immutable, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
