"""What a stage is assumed to do for one image, where no run has measured it.

Token counts are those of English prose and of the JSON that is asked for; rates are of the size of
model that the recipes name. They are there to choose a cluster's size by, not to hold anybody to: a
pilot run of a few hundred images replaces each of them by a measured one.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.encoders.card import read_card
from engine.recipe import Embed, OpenAI, Recipe, Scripted, Vllm
from engine.schema import LEVELS
from engine.stages import Stage
from engine.stages.associate import AssociateStage
from engine.stages.caption import CaptionStage
from engine.stages.describe import DescribeStage
from engine.stages.embed import EmbedStage
from engine.stages.vqascore import VQAScoreStage

#: Requests for each answer: one in ten answers fails a check and is asked for again.
REQUESTS_PER_ANSWER = 1.1
#: The share of `max_tokens` that a description takes.
DESCRIPTION_SHARE = 0.5
TOKENS_PER_ELEMENT = 12
TOKENS_PER_WORD = 4  # of an association, its quotes and comma included
TOKENS_PER_LEVEL = 6  # the level's name and brackets
TOKENS_PER_CAPTION_WORD = 2
#: Bytes of a text table (zstd) for each token.
BYTES_PER_TOKEN = 3
#: Captions that images of a source come with.
CAPTIONS = {"coco": 5, "karpathy": 5}

#: Of a vision-language model of 8 B parameters in bfloat16 on a GPU with 80 GB: tokens that it
#: writes in a second, and requests whose prompts it reads beside them.
TOKENS_PER_GPU_S, REQUESTS_PER_GPU_S = 2500, 100
#: Of an encoder of the size of ViT-L on such a GPU.
IMAGES_PER_GPU_S, TEXTS_PER_GPU_S = 300, 1500


@dataclass(frozen=True)
class Assumed:
    """For one image: requests, output tokens, bytes of the stage's table, seconds of one GPU.

    `gpu_seconds` is None where no GPU computes, or a server that is not the run's own.
    """

    requests: float
    output_tokens: float
    bytes: float
    gpu_seconds: float | None


def assumed(stage: Stage, recipe: Recipe, settings: Vllm | OpenAI | Scripted | Embed) -> Assumed:
    """What the stage is assumed to do for one image.

    Args:
        stage: one of the recipe's.
        recipe: says how many elements, words and captions there are.
        settings: of the stage's engine.
    """
    on_gpus = isinstance(settings, Vllm | Embed) and settings.gpus > 0
    if isinstance(stage, EmbedStage):
        return _embedding(stage, recipe, on_gpus)
    answers, tokens = _answers(stage, recipe)
    requests = answers * (1 if isinstance(stage, VQAScoreStage) else REQUESTS_PER_ANSWER)
    written = tokens * requests / answers if answers else 0.0
    seconds = written / TOKENS_PER_GPU_S + requests / REQUESTS_PER_GPU_S
    return Assumed(requests, written, tokens * BYTES_PER_TOKEN, seconds if on_gpus else None)


def _answers(stage: Stage, recipe: Recipe) -> tuple[float, float]:
    """Answers that are asked for each image, and the tokens of all of them."""
    match stage:
        case DescribeStage():
            return 1, stage.settings.sampling.max_tokens * DESCRIPTION_SHARE
        case AssociateStage():
            limit, elements = stage.settings.sampling.max_tokens, stage.settings.elements
            listed = min(limit, elements * TOKENS_PER_ELEMENT)
            words = stage.settings.words * TOKENS_PER_WORD + TOKENS_PER_LEVEL
            each = min(limit, len(LEVELS) * words)
            # A table of ratings chooses the elements without a request.
            asked, listed = (1, listed) if stage.concreteness is None else (0, 0)
            return asked + elements, listed + elements * each
        case CaptionStage():
            each = min(stage.settings.sampling.max_tokens, stage.settings.max_words * TOKENS_PER_CAPTION_WORD)
            captions = mined_captions(recipe)
            return captions, captions * each
        case VQAScoreStage():
            captions = captions_of(stage.of, recipe)
            return captions, captions
    raise TypeError(f"stage {stage.name}: nothing is assumed of its kind")


def _embedding(stage: EmbedStage, recipe: Recipe, on_gpus: bool) -> Assumed:
    card, width = read_card(stage.encoder), 2 if stage.settings.dtype == "float16" else 4
    if stage.sees_images:
        return Assumed(1, 0, card.vectors * card.width * width, 1 / IMAGES_PER_GPU_S if on_gpus else None)
    texts = captions_of(stage.of, recipe)
    size = texts * card.text_vectors * card.width * width
    return Assumed(texts, 0, size, texts / TEXTS_PER_GPU_S if on_gpus else None)


def captions_of(of: str, recipe: Recipe) -> int:
    """Captions of one image: those that were mined, or those it comes with."""
    if of == "mined":
        return mined_captions(recipe)
    if of != "original":  # a field of the source's records
        return 1
    usual = CAPTIONS.get(recipe.images.source, 1)
    return min(usual, recipe.images.captions_each or usual)


def mined_captions(recipe: Recipe) -> int:
    """Captions that the recipe writes for one image with as many elements as it asks for."""
    caption, associate = recipe.caption, recipe.associate
    if caption is None or associate is None:
        return 0
    drawn = associate.words if caption.draw == "all" else min(caption.draw, associate.words)
    return associate.elements * len(caption.levels) * drawn
