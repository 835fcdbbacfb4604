"""The polysemous instance embedding of Song and Soleymani 2019, which `pvse` and `pcme` share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.training.backbone import Seen


class AttentionPool(nn.Module):
    """K weighted means of a tower's tokens (Lin et al. 2017; METHODS B12):

        A = softmax over tokens of W2 tanh(W1 X),    W1: d -> d/2, W2: d/2 -> K, without bias.

    Args:
        width: d, of a token.
        count: K.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        hidden = max(1, width // 2)
        self.hidden = nn.Linear(width, hidden, bias=False)
        self.scores = nn.Linear(hidden, count, bias=False)
        nn.init.xavier_uniform_(self.hidden.weight)
        nn.init.xavier_uniform_(self.scores.weight)

    def forward(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """(b, n, d) and (b, n) -> (b, K, d); tokens that are not valid have no part in it."""
        scores = self.scores(self.hidden(tokens).tanh()).masked_fill(~valid[..., None], -torch.inf)
        pooled: Tensor = scores.softmax(dim=1).transpose(1, 2) @ tokens
        return pooled


class Polysemous(nn.Module):
    """K vectors that lie around one (METHODS B12, the PIE module):

        r_k = sigmoid(FC(pooled tokens k)),    out_k = LayerNorm(global + r_k).

    Args:
        token_width: of a tower's tokens.
        width: of the pooled vector, and of what comes out.
        count: K.
    """

    def __init__(self, token_width: int, width: int, count: int) -> None:
        super().__init__()
        self.pool = AttentionPool(token_width, count)
        self.residual = nn.Linear(token_width, width)
        self.norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    def forward(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """What comes out, not normalised, and the residuals: (b, K, width) each."""
        residuals = self.residual(self.pool(seen.tokens, seen.valid)).sigmoid()
        return self.norm(seen.pooled[:, None] + residuals), residuals
