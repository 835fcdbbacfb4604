"""From a recipe to its stages, each with the fingerprint of all that decides its output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.decoding import Look
from engine.encoders import EncoderName
from engine.encoders.card import abilities, reads_lower
from engine.errors import RecipeError
from engine.generation import Settings, generator_digest
from engine.generation.prompts import load_prompt
from engine.recipe import Associate, Caption, Describe, Embed, Recipe, VQAScore
from engine.stages.associate import AssociateStage
from engine.stages.caption import CaptionStage
from engine.stages.describe import DescribeStage
from engine.stages.elements import load_concreteness
from engine.stages.embed import EmbedStage, Of, stage_name
from engine.stages.stage import Stage
from engine.stages.vqascore import VQAScoreStage
from engine.storage import digest_settings

#: Raised when the code of a stage changes what it writes for the same settings.
CODE_VERSION = {"describe": 1, "associate": 1, "caption": 1, "vqascore": 1, "embed": 1}


def build_stages(recipe: Recipe) -> list[Stage]:
    """The recipe's stages, in the order in which a part goes through them.

    Raises:
        RecipeError: a prompt, table or model that the recipe names cannot be used.
    """
    digests = {name: _digest(name, settings) for name, settings in recipe.generators.items()}
    stages: list[Stage] = []
    for _, settings in recipe.stages():
        upstream = [stage.fingerprint for stage in stages]
        match settings:
            case Describe():
                stage: Stage = _describe(recipe, settings, digests, upstream)
            case Associate():
                stage = _associate(recipe, settings, digests, upstream)
            case Caption():
                stage = _caption(recipe, settings, digests, upstream)
        stages.append(stage)
    upstream_of = {stage.name: stage.fingerprint for stage in stages}
    if recipe.vqascore:
        stages += _vqascore(recipe, recipe.vqascore, digests, upstream_of)
    if recipe.embed:
        stages += _embed(recipe, recipe.embed, upstream_of)
    return stages


def _digest(name: str, settings: Settings) -> str:
    try:
        return generator_digest(settings)
    except RecipeError as error:
        raise RecipeError(f"generators.{name}: {error}") from error


def _describe(recipe: Recipe, settings: Describe, digests: Mapping[str, str], upstream: list[str]) -> Stage:
    prompt = load_prompt("describe", settings.prompt, (), image=True)
    decided_by = {"prompt": prompt.text, "images": _decoding(recipe)}
    fingerprint = _fingerprint(recipe, "describe", settings, digests, upstream, decided_by)
    return DescribeStage(settings, prompt, recipe.run.seed, _look(recipe), fingerprint)


def _associate(recipe: Recipe, settings: Associate, digests: Mapping[str, str], upstream: list[str]) -> Stage:
    elements = load_prompt("elements", settings.elements_prompt, ("description", "count"), image=False)
    allowed = ("description", "element", "pos", "words")
    prompt = load_prompt("associate", settings.prompt, allowed, image=False)
    table = load_concreteness(settings.concreteness) if settings.concreteness else None
    # Only what is used: another elements prompt changes nothing when a table chooses.
    chosen_by = table.digest if table else elements.text
    decided_by = {"prompt": prompt.text, "elements": chosen_by}
    fingerprint = _fingerprint(recipe, "associate", settings, digests, upstream, decided_by)
    return AssociateStage(settings, elements, prompt, table, recipe.run.seed, fingerprint)


def _caption(recipe: Recipe, settings: Caption, digests: Mapping[str, str], upstream: list[str]) -> Stage:
    allowed = ("element", "others", "level", "association", "max_words")
    prompt = load_prompt("caption", settings.prompt, allowed, image=True)
    decided_by = {"prompt": prompt.text, "images": _decoding(recipe)}
    fingerprint = _fingerprint(recipe, "caption", settings, digests, upstream, decided_by)
    return CaptionStage(settings, prompt, recipe.run.seed, _look(recipe), fingerprint)


def _vqascore(
    recipe: Recipe, settings: VQAScore, digests: Mapping[str, str], upstream: Mapping[str, str]
) -> Iterator[Stage]:
    """A stage for each kind of captions; the run's seed is not in it, since no answer is drawn."""
    prompt = load_prompt("vqascore", settings.prompt, ("caption",), image=True)
    if not any("caption" in piece.get_identifiers() for piece in (prompt.system, *prompt.pieces) if piece):
        raise RecipeError(f"prompt {settings.prompt}: needs $caption, which it asks about")
    for of in settings.captions:
        decided_by: dict[str, Any] = {
            "stage": f"vqascore-{of}",
            "code": CODE_VERSION["vqascore"],
            "answer": settings.answer.casefold(),
            "generator": digests[settings.generator],
            "prompt": prompt.text,
            "images": _decoding(recipe),
        }
        if of == "mined":
            decided_by["upstream"] = upstream["caption"]
        yield VQAScoreStage(settings, prompt, of, _look(recipe), digest_settings(decided_by))


#: Where a prompt or table lies, and which generator by which name, decide nothing: their contents do.
_PLACES = {"generator", "prompt", "elements_prompt", "concreteness"}


def _fingerprint(
    recipe: Recipe,
    name: str,
    settings: Describe | Associate | Caption,
    digests: Mapping[str, str],
    upstream: list[str],
    decided_by: Mapping[str, Any],
) -> str:
    return digest_settings(
        {
            "stage": name,
            "code": CODE_VERSION[name],
            "settings": settings.model_dump(mode="json", exclude=_PLACES),
            "generator": digests[settings.generator],
            "seed": recipe.run.seed,
            "upstream": upstream,
            **decided_by,
        }
    )


def _decoding(recipe: Recipe) -> dict[str, int]:
    return {"max_pixels": recipe.images.max_pixels, "max_side": recipe.images.max_side}


def _look(recipe: Recipe) -> Look:
    return Look(recipe.images.max_pixels, at_most=recipe.images.max_side)


def _embed(recipe: Recipe, settings: Embed, upstream: Mapping[str, str]) -> Iterator[Stage]:
    """A stage for each encoder and each of what it is to embed and can."""
    taken: set[str] = set()
    for text in settings.encoders:
        encoder = EncoderName.parse(text)
        digest, (reads_images, reads_texts) = encoder.digest(), abilities(encoder)
        wanted: list[Of] = [*(("images",) if reads_images else ()), *(settings.texts if reads_texts else ())]
        if not wanted:
            raise RecipeError(
                f"embed.texts: encoder '{text}' reads texts only; name original, mined or a field"
            )
        for of in wanted:
            name = stage_name(encoder, of)
            if name in taken:  # models of one name in two folders
                name = f"{name}-{digest[:6]}"
            taken.add(name)
            decided_by: dict[str, Any] = {
                "stage": f"embed-{of}",
                "code": CODE_VERSION["embed"],
                "encoder": digest,
                "compute": settings.compute,
                "dtype": settings.dtype,
            }
            if encoder.backend == "python":
                decided_by["scaled"] = True  # once lengths were left as somebody's own code gave them
            if of == "images":
                decided_by |= {"decode": settings.decode, "max_pixels": recipe.images.max_pixels}
            elif reads_lower(encoder):
                decided_by["lower"] = True
            if of == "mined":
                decided_by["upstream"] = upstream["caption"]
            yield EmbedStage(
                settings, encoder, of, recipe.images.max_pixels, name, digest_settings(decided_by)
            )
