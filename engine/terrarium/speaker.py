"""Asking the embedded model through plain transformers, without an engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from engine.terrarium.model import load, processor
from engine.terrarium.prompts import Question
from engine.terrarium.render import image
from engine.terrarium.tokens import END, load_tokenizer

_BATCH: Final = 128
_LONGEST_ANSWER: Final = 96


class Speaker:
    """The model of a directory; calling it answers questions.

    Args:
        directory: A model directory as `engine.terrarium.model.save` writes it.
    """

    def __init__(self, directory: Path) -> None:
        torch.manual_seed(0)
        self._tokenizer = load_tokenizer(directory)
        self._model = load(directory, self._tokenizer).eval()
        self._processor = processor(self._tokenizer)

    def __call__(self, questions: Sequence[Question]) -> list[str]:
        """Answer questions of one sort: all with an image or none, at one temperature."""
        # Prompts of similar length together need little padding.
        order = sorted(range(len(questions)), key=lambda number: len(questions[number].prompt))
        answers = [""] * len(questions)
        for start in range(0, len(order), _BATCH):
            numbers = order[start : start + _BATCH]
            texts = self._answer([questions[number] for number in numbers])
            for number, text in zip(numbers, texts, strict=True):
                answers[number] = text
        return answers

    @torch.no_grad()
    def _answer(self, questions: Sequence[Question]) -> list[str]:
        shown = [question.shown for question in questions if question.shown is not None]
        inputs: Any = self._processor(
            text=[question.prompt for question in questions],
            images=[image(scene) for scene in shown] or None,
            padding=True,
            return_tensors="pt",
        )
        temperature = questions[0].temperature
        sampling: dict[str, Any] = (
            {"do_sample": True, "temperature": temperature, "top_p": 0.9, "top_k": 0}
            if temperature
            else {"do_sample": False}
        )
        output = self._model.generate(
            **inputs,
            **sampling,
            max_new_tokens=_LONGEST_ANSWER,
            eos_token_id=self._tokenizer.convert_tokens_to_ids(END),
            pad_token_id=self._tokenizer.pad_token_id,
        )
        new = output[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts
