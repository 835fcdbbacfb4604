"""The section `finetune`: how a CLIP is trained on a run's images and captions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from engine.errors import RecipeError
from engine.recipe.finetune_parts import Adapter, TrainingData
from engine.recipe.section import Section

Tower = Literal["image", "text"]
MethodName = Literal["full", "lora", "prefix", "pvse", "pcme", "dive"]

#: What a method takes where the recipe says nothing. `prefix` has batch, rate and order of its paper's
#: code (METHODS A7), the adapters theirs of the IMP paper (METHODS B12, appendix D), `full` those of the
#: fork of the former. Optimiser and schedule are the same for all (docs/methods.md).
DEFAULTS: dict[str, dict[str, Any]] = {
    "full": {"batch": 512, "epochs": 1, "learning_rate": 1e-5, "order": "shuffled"},
    "lora": {"batch": 512, "epochs": 1, "learning_rate": 1e-4, "order": "shuffled"},
    "prefix": {"batch": 512, "epochs": 1, "learning_rate": 1e-4, "order": "interleaved"},
    "pvse": {"batch": 1024, "epochs": 6, "learning_rate": 1e-4, "order": "shuffled"},
    "pcme": {"batch": 1024, "epochs": 6, "learning_rate": 1e-4, "order": "shuffled"},
    "dive": {"batch": 1024, "epochs": 6, "learning_rate": 1e-4, "order": "shuffled"},
}

#: Settings that cannot change the trained weights, but for the order of floating-point sums.
FREE = frozenset(
    {
        "name",
        "workers",
        "micro_batch",
        "gradient_checkpointing",
        "validate_every",
        "cpus",
        "gpus",
        "decode_threads",
        "max_failures",
        "max_bad_batches",
        "log_every",
        "wandb",
        "mlflow",
        "keep",
        "checkpoint_every",
    }
)


class Finetune(Section):
    """Contrastive fine-tuning of a CLIP on a Ray cluster."""

    name: str | None = None  # of the directory under models/; by default the method
    method: MethodName = "full"
    model: str  # what it starts from: open_clip:... or hf:...
    data: TrainingData = TrainingData()
    towers: tuple[Tower, ...] = ("image", "text")  # that are trained; full and lora may leave one frozen
    loss: Literal["infonce", "sigmoid", "multi_positive"] = "infonce"  # full, lora and prefix
    batch: int = Field(default=512, ge=2)  # pairs of one step, over all workers
    micro_batch: int = Field(default=128, ge=1)  # pairs in one forward pass of a worker
    epochs: int = Field(default=1, ge=1)
    max_steps: int | None = Field(default=None, ge=1)  # ends earlier
    order: Literal["shuffled", "balanced", "interleaved"] = "shuffled"
    shares: tuple[float, float] = (0.6, 0.4)  # interleaved: weights of shuffled and of balanced batches
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(default=1e-5, gt=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)  # full: of the rate, from each layer to the one below
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)  # share of the steps
    clip_norm: float | None = Field(default=1.0, gt=0)  # of the gradient
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    gradient_checkpointing: bool = False
    ema: float | None = Field(default=None, gt=0, lt=1)  # decay of an average of the weights, which is kept
    interpolate: tuple[float, ...] = ()  # WiSE-FT: shares of the new weights to try (full and lora)
    adapter: Adapter = Adapter()
    max_bad_batches: int = Field(default=0, ge=0)  # whose loss is no number; one more stops the run
    validate_every: int | None = Field(default=None, ge=1)  # steps; by default once an epoch
    checkpoint_every: int = Field(default=200, ge=1)  # steps
    keep: int = Field(default=2, ge=1)  # checkpoints, beside the best one
    select: Literal["last", "best"] = "last"  # whose weights the model has: the last step's, or the best's
    start: str | None = None  # a model directory of this method, whose weights are gone on from
    workers: int | tuple[int, int] = 1  # or {min, max}, or [least, most]: as many as the cluster carries
    cpus: float = Field(default=1, gt=0)  # of each worker
    gpus: float = Field(default=0, ge=0)
    decode_threads: int = Field(default=2, ge=1)  # of each worker
    max_failures: int = Field(default=3, ge=0)  # of workers, before the run stops
    log_every: int = Field(default=20, ge=1)  # steps
    wandb: str | None = None  # a project
    mlflow: str | None = None  # an experiment

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_method(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return {**DEFAULTS.get(str(given.get("method", "full")), {}), **given}
        return given

    @field_validator("name")
    @classmethod
    def _name_is_a_directory(cls, name: str | None) -> str | None:
        if name is not None and (not name or name.startswith(".") or "/" in name):
            raise ValueError("a name of one directory, such as prefix-2")
        return name

    @field_validator("model")
    @classmethod
    def _model_is_an_encoder(cls, model: str) -> str:
        from engine.encoders.names import EncoderName

        if model.partition(":")[0] not in ("open_clip", "hf"):
            raise ValueError(
                f"'{model}' cannot be trained; name a CLIP of open_clip, as open_clip:ViT-B-32/openai, or of "
                "transformers, as hf:openai/clip-vit-base-patch32; full and lora make one of these, too"
            )
        try:
            EncoderName.parse(model)
        except RecipeError as error:
            raise ValueError(str(error)) from error
        return model

    @field_validator("shares")
    @classmethod
    def _shares_weigh(cls, shares: tuple[float, float]) -> tuple[float, float]:
        if min(shares) < 0 or sum(shares) == 0:
            raise ValueError("two weights from 0 up, not both 0")
        return shares

    @field_validator("betas")
    @classmethod
    def _betas_decay(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if any(not 0 <= beta < 1 for beta in betas):
            raise ValueError("two shares from 0 to below 1")
        return betas

    @field_validator("towers")
    @classmethod
    def _towers_are_some(cls, towers: tuple[Tower, ...]) -> tuple[Tower, ...]:
        if not towers or len(set(towers)) < len(towers):
            raise ValueError("image, text or both, each once")
        return tuple(sorted(towers))

    @field_validator("interpolate")
    @classmethod
    def _shares_are_shares(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= share <= 1 for share in shares):
            raise ValueError("shares of the new weights, from 0 to 1")
        return shares

    @field_validator("workers", mode="before")
    @classmethod
    def _workers_as_actors(cls, given: Any) -> Any:
        """A range may be written as that of a generator's actors."""
        if isinstance(given, dict):
            if given.keys() != {"min", "max"}:
                raise ValueError("a range has min and max, as {min: 1, max: 8}")
            return given["min"], given["max"]
        if isinstance(given, str):
            raise ValueError(f"'{given}' is no number from 1 up, and no range as {{min: 1, max: 8}}")
        return given

    @field_validator("workers")
    @classmethod
    def _workers_are_some(cls, workers: int | tuple[int, int]) -> int | tuple[int, int]:
        least, most = workers if isinstance(workers, tuple) else (workers, workers)
        if not 1 <= least <= most:
            raise ValueError("a number from 1 up, or {min: least, max: most}, with min not above max")
        return workers

    @model_validator(mode="after")
    def _the_method_can(self) -> Finetune:
        mined = self.data.captions == ("mined",)
        if self.method == "prefix" and not mined:
            raise ValueError("method prefix learns tokens of each level: data.captions must be [mined]")
        if self.loss == "multi_positive" and self.order == "shuffled":
            raise ValueError(
                "loss: in order shuffled no image is in a batch twice, so that multi_positive would be "
                "infonce; take order balanced, which brings an image's captions together"
            )
        if self.interpolate and self.method not in ("full", "lora"):
            raise ValueError(f"interpolate: method {self.method} does not change the model's own weights")
        if len(self.towers) < 2 and self.method not in ("full", "lora"):
            raise ValueError(f"towers: method {self.method} trains what it adds to both")
        for name, wanted in {"interpolate": self.interpolate, "select": self.select == "best"}.items():
            if wanted and not self.data.validation:
                raise ValueError(f"{name}: chosen on held-out images; set data.validation above 0")
        if self.interpolate and self.method == "lora" and self.start:
            raise ValueError("interpolate: what lora began with under finetune.start is not in the model")
        if 0 < self.gpus < 1 and self.workers != 1:
            raise ValueError("gpus: workers that talk to each other need a whole GPU each")
        if self.layer_decay < 1 and self.method != "full":
            raise ValueError(f"layer_decay: method {self.method} trains no layers of the model")
        if self.loss != "infonce" and self.method in ("pvse", "pcme", "dive"):
            raise ValueError(f"loss: method {self.method} has a loss of its own")
        return self

    @property
    def directory(self) -> str:
        """The name of the model's directory under RUN/models."""
        return self.name or self.method

    @property
    def worker_bounds(self) -> tuple[int, int]:
        """The least and the most workers."""
        return self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)

    @property
    def free(self) -> frozenset[str]:
        """The settings that cannot change the model; which step is the best, validations decide."""
        return FREE - {"validate_every"} if self.select == "best" else FREE
