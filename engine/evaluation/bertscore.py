"""BERTScore: how alike two texts are by the tokens of each that are nearest to those of the other.

Zhang et al. 2020 (arXiv 1904.09675, section 3): precision is the mean, over one text's tokens, of the
largest cosine with a token of the other; recall is the same the other way round; F1 is their harmonic
mean and so the same for both orders. Without weights by idf and without rescaling. Special tokens
neither count nor are matched, as in torchmetrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from engine.encoders.quiet import no_progress_bars
from engine.encoders.refusal import refused
from engine.encoders.transformers_models import where
from engine.evaluation.bertscore_name import BertScoreName

#: Texts of one forward pass, and pairs that are matched at once.
_BATCH, _PAIRS = 64, 64
#: Tokens beyond which a text is cut, if its model does not cut it earlier.
_LONGEST: Final = 512


class TokenModel:
    """A text model of transformers and its tokenizer. Code that comes with a model is never run.

    Args:
        name: which one, and which of its layers.
        device: where it computes, as torch names it.

    Raises:
        RecipeError: no such model, one whose weights are not all there, or one that reads no texts.
    """

    def __init__(self, name: BertScoreName, device: str = "cpu") -> None:
        self._layer, self._device = name.layer or -1, device
        place = where(name.model)
        try:
            with no_progress_bars():
                self._tokenize: Any = transformers.AutoTokenizer.from_pretrained(**place)
                model, report = transformers.AutoModel.from_pretrained(
                    **place, dtype=torch.float32, use_safetensors=True, output_loading_info=True
                )
            missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
            if missing:
                raise ValueError(f"its weights lack {len(missing)} tensors, such as {missing[0]}")
            self._model: Any = model.eval().requires_grad_(False).to(device)
            self._longest = _longest(self._tokenize, model)
            self.tokens(["a", "a b"])  # one that wants pictures, or a decoder's input, fails here
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # the device's fault and not the model's
        except Exception as error:  # the library raises whatever it meets
            raise refused(name.model, error, "evaluate.co_captions") from error

    @torch.inference_mode()
    def tokens(self, texts: Sequence[str]) -> list[Tensor]:
        """(t, d) float32 unit rows of each text's t tokens, which may be none; special ones are left out."""
        found = [torch.empty(0)] * len(texts)
        # Of like lengths together: a short one beside a long one is padded to it.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _BATCH):
            some = order[start : start + _BATCH]
            batch = self._tokenize(
                [texts[i] for i in some],
                padding=True,
                truncation=True,
                max_length=self._longest,
                return_special_tokens_mask=True,
                return_tensors="pt",
            ).to(self._device)
            special = batch.pop("special_tokens_mask").bool()
            hidden = self._model(**batch, output_hidden_states=True).hidden_states[self._layer]
            unit = hidden / torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
            counts = batch["attention_mask"].bool() & ~special & torch.isfinite(unit).all(dim=-1)
            for i, rows, wanted in zip(some, unit, counts, strict=True):
                found[i] = rows[wanted]
        return found


def f1(ones: Sequence[Tensor], others: Sequence[Tensor]) -> NDArray[np.float64]:
    """(n,), 0 to 1: of each pair of texts; nan where one has no token, 0 where P or R is not positive.

    Args:
        ones, others: n of `TokenModel.tokens`, each.
    """
    found = np.full(len(ones), np.nan)
    there = [i for i, pair in enumerate(zip(ones, others, strict=True)) if all(map(len, pair))]
    for start in range(0, len(there), _PAIRS):
        some = there[start : start + _PAIRS]
        found[some] = _f1([ones[i] for i in some], [others[i] for i in some]).cpu().numpy()
    return found


def _f1(ones: list[Tensor], others: list[Tensor]) -> Tensor:
    one, other = (pad_sequence(side, batch_first=True) for side in (ones, others))
    cosines = one @ other.transpose(1, 2)
    here, there = _lengths(ones), _lengths(others)
    precision = _mean(cosines.masked_fill(_behind(there, other)[:, None], -2).amax(dim=2), here)
    recall = _mean(cosines.masked_fill(_behind(here, one)[:, :, None], -2).amax(dim=1), there)
    both = (precision > 0) & (recall > 0)
    return torch.where(both, 2 * precision * recall / (precision + recall), 0).clamp(max=1)


def _lengths(texts: list[Tensor]) -> Tensor:
    return torch.tensor([len(text) for text in texts], device=texts[0].device)


def _behind(lengths: Tensor, padded: Tensor) -> Tensor:
    """(n, t), where there is padding."""
    return torch.arange(padded.shape[1], device=lengths.device) >= lengths[:, None]


def _mean(values: Tensor, lengths: Tensor) -> Tensor:
    """(n,), float64: of the first values of each row."""
    return values.double().masked_fill(_behind(lengths, values), 0).sum(dim=1) / lengths


def _longest(tokenizer: Any, model: Any) -> int:
    """Tokens of a text: as many as the model has places for."""
    places = getattr(model.config, "max_position_embeddings", None) or 0
    named = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    padding = getattr(next(named, None), "padding_idx", None)
    # RoBERTa and its kin count places from behind that of the padding.
    places -= 0 if padding is None else padding + 1
    return min(int(n) for n in (_LONGEST, tokenizer.model_max_length, places) if n > 0)
