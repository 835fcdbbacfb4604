"""The sections `cluster`, `sample` and `polysemy`: what is measured on the vectors of a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from engine.recipe.section import Section


class Reserving(Section):
    """What each worker or task of a job reserves."""

    cpus: float = Field(default=2, ge=0.5)
    gpus: float = Field(default=0, ge=0)


class Cluster(Reserving):
    """UMAP and HDBSCAN over one encoder's images (METHODS B4)."""

    actors: int = Field(default=1, ge=1)  # that place images
    encoder: str  # one of embed.encoders
    backend: Literal["auto", "cpu", "cuml"] = "auto"  # auto: cuml where there is a GPU and cuML
    mode: Literal["seeded", "scale"] = "seeded"  # scale: a little faster, another result every time
    fit_rows: int = Field(default=200_000, ge=10)  # the rest is placed among them
    neighbours: int = Field(default=15, ge=2)
    dimensions: int = Field(default=5, ge=2, le=50)  # of the space that is clustered
    min_dist: float = Field(default=0.1, ge=0, le=1)  # of the 2-D map
    min_cluster_size: int = Field(default=50, ge=2)
    min_samples: int = Field(default=10, ge=1)
    epsilon: float = Field(default=0.0, ge=0)  # clusters nearer than that are not parted
    select: Literal["eom", "leaf"] = "eom"
    captions: Literal["original", "mined", "both"] = "both"  # whose words name the clusters
    terms: int = Field(default=10, ge=1)
    exemplars: int = Field(default=5, ge=1)
    map_points: int = Field(default=3000, ge=1)  # of the interactive map

    @model_validator(mode="after")
    def _a_fit_holds_a_cluster(self) -> Cluster:
        for name in ("neighbours", "min_cluster_size", "min_samples"):
            if self.fit_rows <= getattr(self, name):
                raise ValueError(f"fit_rows ({self.fit_rows}) must be above {name} ({getattr(self, name)})")
        return self


class Sample(Section):
    """Farthest-point sampling on the map (METHODS B7)."""

    count: int = Field(default=5000, ge=1)


class Polysemy(Reserving):
    """The radius curve (METHODS B6) and the polysemy of each cluster."""

    image_encoder: str  # who is near whom (DINOv2)
    text_encoder: str  # images to captions (CLIP)
    texts: tuple[Literal["original", "mined"], ...] = ("original",)  # a curve for each
    queries: int = Field(default=1000, ge=1)
    radii: tuple[float, ...] = (0, 1, 2, 5, 10, 25, 50, 100)
    radius: Literal["neighbours", "map"] = "neighbours"  # how many, or how far on the map
    cluster_rows: int = Field(default=50, ge=2)  # images of a cluster that are compared
    show: int = Field(default=12, ge=1)  # clusters listed with examples

    @field_validator("radii")
    @classmethod
    def _radii_grow(cls, radii: tuple[float, ...]) -> tuple[float, ...]:
        if not radii or min(radii) < 0 or list(radii) != sorted(set(radii)):
            raise ValueError("name radii from 0 up, each larger than the one before")
        return radii

    @field_validator("texts")
    @classmethod
    def _texts_are_named(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if not texts or len(set(texts)) < len(texts):
            raise ValueError("name original, mined or both, each once")
        return texts

    @model_validator(mode="after")
    def _neighbours_are_whole(self) -> Polysemy:
        broken = [radius for radius in self.radii if radius != int(radius)]
        if broken and self.radius == "neighbours":
            raise ValueError(
                f"radii: {broken[0]:g} is no number of neighbours; write whole ones, or radius: map"
            )
        return self
