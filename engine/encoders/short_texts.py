"""open_clip's text towers without the padding of short captions.

A CLIP reads 77 tokens, whatever a caption's length. Its text tower is causal and gives the vector of the
end token, so nothing behind the longest caption of a batch can change a result: captions of a dozen
words cost a fifth of the tower's time when the padding is left out. transformers pads no further by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

#: Lengths are multiples of this, as matrix products like them, and so that there are few of them.
_MULTIPLE = 8


def short_reader(model: Any) -> Callable[[Tensor], Tensor]:
    """`model.encode_text`, which leaves out what lies behind the longest caption where that is exact.

    Args:
        model: of open_clip.

    Returns:
        From (b, context length) tokens to what the model's own function gives.
    """
    prefix, tower = ("clip.text.", model.text) if hasattr(model, "text") else ("clip.", model)
    if not ends_at_its_end(tower):
        return model.encode_text  # type: ignore[no-any-return]
    reader = _Reader(model)

    def read(tokens: Tensor) -> Tensor:
        length = longest(tokens)
        if length >= tokens.shape[1]:
            return model.encode_text(tokens)  # type: ignore[no-any-return]
        short = {
            f"{prefix}positional_embedding": tower.positional_embedding[:length],
            f"{prefix}attn_mask": tower.attn_mask[:length, :length],
        }
        return torch.func.functional_call(  # type: ignore[no-any-return]
            reader, short, (tokens[:, :length],), tie_weights=False
        )

    return read


def longest(tokens: Tensor) -> int:
    """Up to where some caption of (b, n) tokens reaches, as a multiple of 8 where n allows it.

    A caption ends with its end token, the largest number in CLIP's vocabulary.
    """
    if not len(tokens):
        return tokens.shape[1]
    reached = int(tokens.argmax(dim=1).max()) + 1
    return min(-(-reached // _MULTIPLE) * _MULTIPLE, tokens.shape[1])


class _Reader(nn.Module):
    """A model of which only the text tower is called, so that its tensors can be exchanged for a call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.clip = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.clip.encode_text(tokens)  # type: ignore[no-any-return, operator]


def ends_at_its_end(tower: Any) -> bool:
    """Whether a tower is causal and gives the vector of the largest token."""
    if isinstance(tower, CLIP):
        pooled, plain = tower.text_pool_type, True
    elif isinstance(tower, TextTransformer):
        pooled, plain = tower.pool_type, tower.cls_emb is None
    else:
        return False
    return plain and tower.attn_mask is not None and pooled == "argmax"
