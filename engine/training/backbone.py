"""The pretrained model under a method: both towers of a CLIP, with their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.encoders.names import EncoderName
from engine.errors import RecipeError

#: Names in the libraries' models, of open_clip and transformers.
_IMAGE_TOWER = ("visual.", "vision_model.", "visual_projection.")
_OF_BOTH = frozenset({"logit_scale", "logit_bias"})


@dataclass(frozen=True)
class Seen:
    """What a tower says of b images or captions.

    Attributes:
        pooled: (b, width): the projected vector, not normalised.
        tokens: (b, n, token width): of the last layer, without an image's class token; of captions up
            to the longest.
        valid: (b, n), bool: false where a caption has ended.
    """

    pooled: Tensor
    tokens: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Places:
    """Where in a library's model the tokens pass, as modules.

    Attributes:
        before: gets an image's tokens with their positions, before the first layer.
        image: gives an image's tokens of the last layer, class token first.
        text: gives a caption's tokens of the last layer; None if the text tower is of another kind.
    """

    before: nn.Module
    image: nn.Module
    text: nn.Module | None


class Backbone(nn.Module):
    """A CLIP of any library, seen alike.

    Attributes:
        model: the library's.
        width: of the space that both towers share.
        image_token_width, text_token_width: of a token of each tower.
        logit_scale, logit_bias: the model's own parameters, the bias None where it has none.
        prepare: an RGB picture -> (3, height, width), float32.
        tokenize: captions -> (b, context length), int64; or so many tokens as are asked for.
        side: pixels of a prepared image's side.
    """

    def __init__(
        self,
        name: EncoderName,
        model: Any,
        places: Places | None,
        encode: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
        width: int,
        token_widths: tuple[int, int],
        prepare: Callable[[Image.Image], Tensor],
        tokenize: Callable[..., Tensor],
        side: int,
    ) -> None:
        super().__init__()
        self.name, self.model = name, model
        self.width, self.side = width, side
        self.image_token_width, self.text_token_width = token_widths
        self.prepare, self.tokenize = prepare, tokenize
        self._encode_image, self._encode_text = encode
        # In a list, since the modules belong to the model already.
        self._places = [places] if places else []

    def train(self, mode: bool = True) -> Backbone:
        """Nothing changes: a fine-tuned CLIP keeps no statistics and drops nothing at random."""
        del mode
        return super().train(False)

    def compute_again(self) -> None:
        """Keep no activations of the layers; they are computed again in the backward pass."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        if hasattr(self.model, "set_grad_checkpointing"):
            self.model.set_grad_checkpointing()
        # Layers of transformers, which a text tower of open_clip may have, too, would do so in training mode
        # only, in which some of them drop activations at random.
        for layer in self.model.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)

    def train_towers(self, towers: Sequence[str]) -> None:
        """Train the weights of some towers ("image", "text") and those of both, and no others."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(tower_of(name) in (*towers, ""))

    @property
    def logit_scale(self) -> nn.Parameter:
        """Logarithm of the factor of the cosines."""
        return self.model.logit_scale  # type: ignore[no-any-return]

    @property
    def logit_bias(self) -> nn.Parameter | None:
        """Of SigLIP's models."""
        return getattr(self.model, "logit_bias", None)

    def places(self, method: str, read: bool = False) -> Places:
        """Where tokens pass; with `read`, also those of the text tower.

        Raises:
            RecipeError: the model has no such places.
        """
        if not self._places:
            tower = type(getattr(self.model, "visual", self.model)).__name__
            raise RecipeError(
                f"finetune.method: {method} works on a vision transformer's tokens, and the image tower of "
                f"'{self.name.text}' is {tower}; take a ViT, or method full or lora"
            )
        if read and self._places[0].text is None:
            raise RecipeError(
                f"finetune.method: {method} works on the tokens of a text tower that ends a caption at its "
                f"largest token, as CLIP's do, and '{self.name.text}' has another; take method full, lora or "
                "prefix"
            )
        return self._places[0]

    def see(self, pixels: Tensor, extra: Tensor | None = None) -> Seen:
        """Run the image tower.

        Args:
            pixels: (b, 3, height, width).
            extra: (b, p, image token width): tokens to append after class and patches, before the
                first layer norm (METHODS A7, mode "third").
        """
        places = self.places("prefix or an adapter")
        with _appended(places.before, extra), _caught(places.image) as caught:
            pooled = self._encode_image(pixels)
        # Patches alone: neither the class token nor what was appended.
        tokens = caught[-1][:, 1 : caught[-1].shape[1] - (0 if extra is None else extra.shape[1])]
        return Seen(pooled, tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

    def read(self, tokens: Tensor) -> Seen:
        """Run the text tower over (b, context length) tokens."""
        place = self.places("an adapter", read=True).text
        assert place is not None
        with _caught(place) as caught:
            pooled = self._encode_text(tokens)
        # A caption ends with its end token, the largest number (CLIP's vocabulary).
        ends = tokens.argmax(dim=-1, keepdim=True)
        return Seen(pooled, caught[-1], torch.arange(caught[-1].shape[1], device=tokens.device) <= ends)

    def embed_image(self, pixels: Tensor) -> Tensor:
        """(b, width), not normalised; of any image tower."""
        return self._encode_image(pixels)

    def embed_text(self, tokens: Tensor) -> Tensor:
        """(b, width), not normalised."""
        return self._encode_text(tokens)


def tower_of(name: str) -> str:
    """`image` or `text`, by a parameter's name in the library's model; nothing for what belongs to both."""
    if name in _OF_BOTH:
        return ""
    return "image" if name.startswith(_IMAGE_TOWER) else "text"


class _caught:
    """Collects what a module returns while it is open."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self._found = module, list[Tensor]()

    def __enter__(self) -> list[Tensor]:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            self._found.append(getattr(output, "last_hidden_state", output))

        self._hook = self._module.register_forward_hook(keep)
        return self._found

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


class _appended:
    """Appends tokens to what a module is given while it is open."""

    def __init__(self, module: nn.Module, extra: Tensor | None) -> None:
        self._module, self._extra = module, extra

    def __enter__(self) -> None:
        extra = self._extra
        self._hook = None
        if extra is not None:
            self._hook = self._module.register_forward_pre_hook(
                lambda _, given: (torch.cat([given[0], extra.to(given[0].dtype)], dim=1), *given[1:])
            )

    def __exit__(self, *_: object) -> None:
        if self._hook is not None:
            self._hook.remove()
