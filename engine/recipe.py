"""The settings of a run: one frozen class per section of a recipe; unknown keys are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.errors import RecipeError
from engine.schema import LEVELS


class Section(BaseModel):
    """A section of the recipe: immutable, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Images(Section):
    """Where the images are. `uri` may hold ranges in braces (`{00000..00117}`) and globs."""

    source: Literal["webdataset", "parquet", "folder", "coco"]
    uri: str | tuple[str, ...]
    annotations: str | None = None  # coco: the captions_*.json beside the image folder `uri`
    image_column: str = "image"  # parquet: binary, or the {bytes, path} struct of Hugging Face
    caption_column: str | None = None  # parquet: text or list of texts
    key_column: str | None = None  # parquet: defaults to the row number
    shard_images: int = Field(default=4096, ge=1)  # folder, coco: files that make one shard
    max_pixels: int = Field(default=100_000_000, ge=1)  # larger images are refused as bombs
    max_side: int = Field(default=1024, ge=8)  # larger images are scaled down for the models
    digest: Literal["content", "index"] = "content"  # index: names, sizes and times only

    @model_validator(mode="after")
    def _annotations_belong_to_coco(self) -> Images:
        if (self.source == "coco") != (self.annotations is not None):
            raise ValueError("`annotations` is needed by source coco, and by no other")
        return self


class Run(Section):
    """Where the run writes, what it may lose, and how it is cut into parts."""

    out: str | None = None
    seed: int = 0
    part_rows: int = Field(default=256, ge=1)
    part_bytes: int = Field(default=96 * 2**20, ge=1, le=112 * 2**20)  # below Ray's block limit
    max_failed_share: float = Field(default=0.05, ge=0, le=1)
    parts_in_flight: int = Field(default=2, ge=1)  # per generation actor


class Actors(Section):
    """The size of a pool: fixed unless `max` is above `min`, then it scales with the queue."""

    min: int = Field(default=1, ge=1)
    max: int = Field(default=1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"min": value, "max": value} if isinstance(value, int) else value

    @model_validator(mode="after")
    def _ordered(self) -> Actors:
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self


class Pool(Section):
    """What every generator has: the size of its pool and what each actor reserves."""

    actors: Actors = Actors()
    cpus: float = Field(default=1, ge=0)
    requests_in_flight: int = Field(default=256, ge=1)  # per actor


class Vllm(Pool):
    """A vLLM engine in each actor. `model` is a directory, a hub name, or `terrarium`."""

    backend: Literal["vllm"]
    model: str
    revision: str | None = None
    gpus: float = Field(default=0, ge=0)  # above 1: tensor parallel over that many
    max_model_len: int | None = Field(default=None, ge=1)
    dtype: str = "auto"
    trust_remote_code: bool = False
    engine: dict[str, Any] = {}  # further AsyncEngineArgs


class OpenAI(Pool):
    """A server that speaks the OpenAI chat protocol."""

    backend: Literal["openai"]
    model: str
    base_url: str
    api_key_env: str = "OPENAI_API_KEY"  # the variable that holds the key, never the key
    attempts: int = Field(default=6, ge=1)
    timeout_s: float = Field(default=300, gt=0)
    requests_in_flight: int = Field(default=32, ge=1)


class Scripted(Pool):
    """Answers computed from the request: for tests and benchmarks of the engine itself."""

    backend: Literal["scripted"]
    delay_s: float = Field(default=0, ge=0)  # waits as a device would
    script: str = "engine.generation.scripted:answer"  # module:function


Generator = Annotated[Vllm | OpenAI | Scripted, Field(discriminator="backend")]


class Sampling(Section):
    """How tokens are drawn."""

    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=0.9, gt=0, le=1)
    max_tokens: int = Field(default=150, ge=1)


class Stage(Section):
    """What every generating stage has."""

    generator: str
    sampling: Sampling = Sampling()
    attempts: int = Field(default=3, ge=1)


class Describe(Stage):
    """One dense description per image."""

    prompt: str | None = None  # a file instead of the package's prompt; so below
    sampling: Sampling = Sampling(max_tokens=300)


class Associate(Stage):
    """Salient elements of an image, and the words each evokes at five distances."""

    prompt: str | None = None
    elements_prompt: str | None = None
    elements: int = Field(default=5, ge=1)  # at most so many (METHODS A2: top 5)
    words: int = Field(default=3, ge=1)  # for each element and level (METHODS A2: three)
    select: Literal["description", "concreteness"] = "description"
    concreteness: str | None = None  # the table for select: concreteness (csv or tsv)
    sampling: Sampling = Sampling(max_tokens=1000)

    @model_validator(mode="after")
    def _table_is_given(self) -> Associate:
        if (self.select == "concreteness") != (self.concreteness is not None):
            raise ValueError("`concreteness` (a table of ratings) and `select: concreteness` go together")
        return self


class Caption(Stage):
    """Creative captions, one for each element, level and drawn association."""

    prompt: str | None = None
    draw: int | Literal["all"] = 1  # associations drawn for each element and level
    levels: tuple[str, ...] = LEVELS
    max_words: int = Field(default=9, ge=1)  # "fewer than 10 words"

    @model_validator(mode="after")
    def _levels_exist(self) -> Caption:
        for level in self.levels:
            if level not in LEVELS:
                raise ValueError(f"levels: '{level}' is not one of {', '.join(LEVELS)}")
        return self


class Recipe(Section):
    """A whole recipe. A section that is absent is not run."""

    images: Images
    run: Run = Run()
    generators: dict[str, Generator] = {}
    describe: Describe | None = None
    associate: Associate | None = None
    caption: Caption | None = None

    @model_validator(mode="after")
    def _stages_stand_on_each_other(self) -> Recipe:
        for name, stage in self.stages():
            if stage.generator not in self.generators:
                known = ", ".join(self.generators) or "none"
                raise ValueError(f"{name}.generator: '{stage.generator}' is not under generators ({known})")
        if self.caption and not self.associate:
            raise ValueError("caption needs the section associate")
        if self.associate and not self.describe:
            raise ValueError("associate needs the section describe")
        return self

    def stages(self) -> list[tuple[str, Describe | Associate | Caption]]:
        """The stages that this recipe runs, in their order."""
        named = (("describe", self.describe), ("associate", self.associate), ("caption", self.caption))
        return [(name, stage) for name, stage in named if stage is not None]


def load_recipe(path: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key.key=value` settings (values are YAML) on top of it.

    Raises:
        RecipeError: the file is missing or no YAML mapping, or a key or value is wrong; the
            message names each.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path}: cannot be read ({error}); name a YAML file") from error
    return parse_recipe(text, settings, origin=str(path))


def parse_recipe(text: str, settings: Sequence[str] = (), origin: str = "recipe") -> Recipe:
    """Parse the text of a recipe; see `load_recipe`."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{origin}: a recipe is a YAML mapping with a section `images`")
    for setting in settings:
        _apply(data, setting)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{origin}: {_explain(error)}") from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, defaults included."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(data: dict[str, Any], setting: str) -> None:
    path, equals, text = setting.partition("=")
    if not equals or not path.strip():
        raise RecipeError(f"--set {setting}: write it as section.key=value")
    *parents, last = path.strip().split(".")
    place: Any = data
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else place
        if not isinstance(place, dict):
            raise RecipeError(f"--set {setting}: '{parent}' is a value, not a section")
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {setting}: the value is not valid YAML: {error}") from error


def _explain(error: ValidationError) -> str:
    """One line per mistake: the key's path, then what is wrong with it."""
    lines = []
    for detail in error.errors(include_url=False):
        path = ".".join(str(key) for key in detail["loc"]) or "recipe"
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = f"unknown key{_suggest(detail['loc'])}"
        lines.append(f"{path}: {message}")
    return "\n  ".join([f"{len(lines)} setting(s) refused:", *lines])


def _suggest(location: Sequence[str | int]) -> str:
    from difflib import get_close_matches

    known: Mapping[str, Any] = Recipe.model_fields
    sections: dict[str, type[BaseModel]] = {
        "images": Images,
        "run": Run,
        "describe": Describe,
        "associate": Associate,
        "caption": Caption,
    }
    for section in location[:-1]:
        if section in sections:
            known = sections[str(section)].model_fields
    if "generators" in location:
        known = {**Vllm.model_fields, **OpenAI.model_fields, **Scripted.model_fields}
    close = get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f" (known: {', '.join(known)})"
