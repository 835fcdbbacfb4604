"""The language model's loss on lessons, and how well it answers scenes it has not seen."""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from engine.terrarium.lessons import UNASKED, Batch


def answer_loss(model: LlavaForConditionalGeneration, batch: Batch, features: Tensor | None) -> Tensor:
    """Mean cross-entropy of the answers' tokens.

    Args:
        model: The whole model.
        batch: Lessons; those with images start with their patches.
        features: What the vision tower says of the images, shape (n, patches, width); None for
            lessons without images.
    """
    logits, targets = _answers(model, batch, features)
    return functional.cross_entropy(logits.float(), targets)


@torch.no_grad()
def exactness(model: LlavaForConditionalGeneration, batch: Batch, features: Tensor | None) -> float:
    """Share of answer tokens that would be chosen greedily."""
    logits, targets = _answers(model, batch, features)
    return float((logits.argmax(dim=-1) == targets).float().mean())


def _answers(
    model: LlavaForConditionalGeneration, batch: Batch, features: Tensor | None
) -> tuple[Tensor, Tensor]:
    language = model.model.language_model
    embedded = language.embed_tokens(batch.ids)
    if features is not None:
        seen = model.model.multi_modal_projector(features)
        embedded = torch.cat([seen.to(embedded.dtype), embedded[:, seen.shape[1] :]], dim=1)
    hidden = language(
        inputs_embeds=embedded,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    asked = batch.targets != UNASKED
    # Only answers go through the large last layer.
    return model.lm_head(hidden[asked]), batch.targets[asked]
