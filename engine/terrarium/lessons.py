"""Second half of the training: what the language model reads and must answer.

A lesson is one prefix (the image's patches, or a description) followed by several questions with
their answers. The questions see the prefix and themselves but not each other, as if each stood
alone behind the prefix; so the prefix, most of the work, is computed once for all of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from engine.terrarium.claims import Claim, claim
from engine.terrarium.grammar import associations, captions, description, elements_answer
from engine.terrarium.lexicon import LEVELS, words
from engine.terrarium.prompts import rendered
from engine.terrarium.tokens import END, IMAGE, Tokenizer
from engine.terrarium.vision_shape import PATCHES
from engine.terrarium.world import Scene

CAPTIONS: Final = 4
CLAIMS: Final = 12
ASSOCIATED: Final = 2
# Now and then a caption is asked for with a word that does not belong, so that the model copies
# what it is given instead of recalling what it knows.
_STRANGE: Final = 0.15
UNASKED: Final = -100
_YES, _NO = "yes", "no"


@dataclass(frozen=True)
class Branch:
    """A question with its answer.

    Attributes:
        ids: Its tokens.
        targets: For each of them the token to answer with behind it, else `UNASKED`.
    """

    ids: list[int]
    targets: list[int]


@dataclass(frozen=True)
class Lesson:
    """Token ids of the prefix, and what is asked of it."""

    prefix: list[int]
    branches: list[Branch]


@dataclass(frozen=True)
class Batch:
    """Lessons as tensors.

    Attributes:
        ids: Shape (n, length), int64.
        positions: Shape (n, length), int64; every question starts again behind the prefix.
        targets: Shape (n, length), int64: the next token of an answer, else `UNASKED`.
        mask: Shape (n, 1, length, length), float32: 0 where a token sees another, else very low.
    """

    ids: Tensor
    positions: Tensor
    targets: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        return Batch(
            self.ids.to(device),
            self.positions.to(device),
            self.targets.to(device),
            self.mask.to(device),
        )


class Teacher:
    """Makes lessons of scenes with a tokenizer."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._tokenizer = tokenizer
        self._rng = np.random.default_rng(seed)
        self._image = [tokenizer.convert_tokens_to_ids(IMAGE)] * PATCHES
        self._words = words()

    def look(self, scene: Scene) -> Lesson:
        """An image, to be described and captioned, and claims about it to be judged."""
        asked = [(rendered("describe"), description(scene))]
        for _ in range(CAPTIONS):
            kind = self._draw(scene.kinds)
            level = self._draw(LEVELS)
            word = self._draw(associations(scene, kind, self._rng)[level])
            if self._rng.random() < _STRANGE:
                word = self._draw(self._words)
            prompt = rendered("caption", level=level, element=kind, association=word)
            asked.append((prompt, self._draw(captions(scene, kind, level, word))))
        branches = [self._branch(p, a, len(IMAGE)) for p, a in asked]
        for number in range(CLAIMS):
            branches.append(self._judge(claim(scene, self._rng, self._draw(LEVELS) if number % 2 else None)))
        return Lesson(self._image, branches)

    def read(self, scene: Scene) -> Lesson:
        """A description, whose elements are listed and associated."""
        text = description(scene)
        asked = [(rendered("elements", description=text), elements_answer(scene))]
        for number in self._rng.permutation(len(scene.kinds))[:ASSOCIATED]:
            kind = scene.kinds[number]
            prompt = rendered("associate", description=text, element=kind)
            asked.append((prompt, json.dumps(associations(scene, kind, self._rng))))
        return Lesson(self._encode(text), [self._branch(p, a, len(text)) for p, a in asked])

    def _branch(self, prompt: str, answer: str, prefix: int) -> Branch:
        question, answered = self._encode(prompt[prefix:]), self._encode(answer + END)
        return Branch(question + answered, [UNASKED] * (len(question) - 1) + answered + [UNASKED])

    def _judge(self, said: Claim) -> Branch:
        """Whether a claim is true; and behind each of its words, whether that is right.

        The answer alone is one bit for some twenty tokens, of which nothing was learned in 14,000 scenes.
        """
        prompt = rendered("vqascore", caption=said.text)
        before, spoken = prompt[len(IMAGE) : prompt.index(f" {said.text}")], said.text.split()
        asked = self._branch(prompt, _YES if said.true else _NO, len(IMAGE))
        end = len(self._encode(before)) - 1
        for word, true in zip(spoken, said.right, strict=False):
            end += len(self._encode(f" {word}"))
            (asked.targets[end],) = self._encode(_YES if true else _NO)
        return asked

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _draw(self, choices: Sequence[str]) -> str:
        return choices[int(self._rng.integers(len(choices)))]


def collate(lessons: Sequence[Lesson]) -> Batch:
    """Lay lessons side by side, padded at the end."""
    lengths = [len(one.prefix) + sum(len(each.ids) for each in one.branches) for one in lessons]
    shape = (len(lessons), max(lengths))
    ids, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    targets = np.full(shape, UNASKED, dtype=np.int64)
    # Padding tokens form a branch of their own: seeing themselves keeps the softmax finite.
    branch = np.full(shape, -1, dtype=np.int64)
    for row, lesson in enumerate(lessons):
        start = len(lesson.prefix)
        ids[row, :start], positions[row, :start] = lesson.prefix, np.arange(start)
        branch[row, :start] = 0
        for number, each in enumerate(lesson.branches, 1):
            stop = start + len(each.ids)
            ids[row, start:stop], targets[row, start:stop] = each.ids, each.targets
            positions[row, start:stop] = np.arange(len(each.ids)) + len(lesson.prefix)
            branch[row, start:stop] = number
            start = stop
    seen = (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    mask = torch.where(torch.from_numpy(seen).tril()[:, None], 0.0, -1e9)
    laid, placed, asked = (torch.from_numpy(array) for array in (ids, positions, targets))
    return Batch(laid, placed, asked, mask)
