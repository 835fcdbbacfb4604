"""How a fine-tuned model is loaded elsewhere, as its card tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.encoders.fine_tuned_about import trained_levels
from engine.recipe.finetune import Finetune

_OPEN_CLIP = """\
```python
import open_clip

model, preprocess = open_clip.create_model_from_pretrained("local-dir:DIR")
tokenizer = open_clip.get_tokenizer("local-dir:DIR")
```

`DIR` is this directory. Where open_clip knows the architecture by its name, the weights alone can be given,
as in `pretrained="DIR/open_clip_model.safetensors"`."""
_TRANSFORMERS = """\
```python
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

model = CLIPModel.from_pretrained("DIR/model")
preprocess = AutoImageProcessor.from_pretrained("DIR/model")
tokenizer = AutoTokenizer.from_pretrained("DIR/model")
```

`DIR` is this directory."""
_METHOD = """\
This directory holds what was learned; the base model is loaded beside it, and must be where it was.

```python
from engine.encoders import EncoderName, load_encoder

encoder = load_encoder(EncoderName.parse("connote:DIR"))
vectors = encoder.embed_images([encoder.prepare(picture)])
```

`DIR` is this directory; in a recipe, `embed.encoders` takes the same name."""
_LEVEL = (
    " `connote:DIR@{level}` sees images at a level that it was trained on ({levels}); without one, images "
    "are seen as by the base model."
)
_SET = (
    " An image has {vectors} vectors, and so has a caption; they are compared as sets (`encoder.similarity`)."
)
_SAMPLES = (
    " An image has {samples} samples, and so has a caption (`encoder.similarity` tells how they are "
    "compared); `connote:DIR@mean` gives the mean of each, a unit vector."
)


def how_to_load(settings: Finetune, about: Mapping[str, Any]) -> str:
    """Markdown, by the form in which the model was written; see `model_card`."""
    match about["form"]:
        case "open_clip":
            return _OPEN_CLIP
        case "hf":
            return _TRANSFORMERS
    text = _METHOD
    if settings.method == "prefix":
        levels = trained_levels({"settings": settings.model_dump(mode="json"), **about})
        text += _LEVEL.format(level=levels[-1], levels=", ".join(levels))
    if about.get("vectors", 1) > 1:
        text += _SET.format(vectors=about["vectors"])
    if settings.method == "pcme":
        text += _SAMPLES.format(samples=settings.adapter.samples)
    return text
