"""The set prediction module of Kim et al. 2023: K learned slots that compete for a tower's tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.training.backbone import Seen

#: Rounds of attention and feed-forward, which share their weights, and heads (METHODS B12).
BLOCKS, HEADS = 4, 4
#: Of the feed-forward's hidden layer (METHODS B12).
EXPANSION = 4
#: Added to what a slot attends to altogether, before it is divided by it (METHODS B12).
_EPSILON = 1e-7


class SlotAttention(nn.Module):
    """Attention in which the slots compete for each token (Locatello et al. 2020; METHODS B12).

    Of each head, softmax over the slots, then each slot's weights divided by their sum over tokens.

    Args:
        width: of a slot, and of each head: 4 heads x 512 in METHODS B12, for slots of 512.
        token_width: of a token.
    """

    def __init__(self, width: int, token_width: int) -> None:
        super().__init__()
        self.slot_norm, self.token_norm = nn.LayerNorm(width), nn.LayerNorm(token_width)
        self.query = nn.Linear(width, HEADS * width, bias=False)
        self.key = nn.Linear(token_width, HEADS * width, bias=False)
        self.value = nn.Linear(token_width, HEADS * width, bias=False)
        self.out = nn.Linear(HEADS * width, width)
        self._scale = width**-0.5

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all rounds, (b, heads, n, width) each, of (b, n, token width)."""
        normed = self.token_norm(tokens)
        return _heads(self.key(normed)), _heads(self.value(normed))

    def forward(self, slots: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        """(b, K, width) -> the same; tokens that are not valid, (b, n), have no part in it."""
        queries = _heads(self.query(self.slot_norm(slots))) * self._scale
        shares = (queries @ keys.transpose(2, 3)).softmax(dim=2) * valid[:, None, None]
        # In half precision the epsilon would be nothing.
        shares = shares.to(torch.promote_types(shares.dtype, torch.float32))
        weights = shares / (shares.sum(dim=3, keepdim=True) + _EPSILON)
        found = weights.to(values.dtype) @ values
        seen: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return seen


class Slots(nn.Module):
    """K slots, filled from a tower's tokens (METHODS B12).

    Args:
        token_width: of a token.
        width: of a slot.
        count: K.
    """

    def __init__(self, token_width: int, width: int, count: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(count, width))
        self.attention = SlotAttention(width, token_width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, EXPANSION * width),
            nn.GELU(),
            nn.Linear(EXPANSION * width, width),
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, seen: Seen) -> Tensor:
        """(b, K, width)."""
        slots = self.first.expand(len(seen.tokens), -1, -1)
        keys, values = self.attention.read(seen.tokens)
        for _ in range(BLOCKS):
            slots = slots + self.attention(slots, keys, values, seen.valid)
            slots = slots + self.feed_forward(slots)
        filled: Tensor = self.norm(slots)
        return filled


def _heads(joined: Tensor) -> Tensor:
    """(b, n, heads x width) -> (b, heads, n, width)."""
    return joined.view(*joined.shape[:2], HEADS, -1).transpose(1, 2)
