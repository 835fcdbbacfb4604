"""The JSON files of a model, in its directory or on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from engine.encoders.names import EncoderName
from engine.encoders.refusal import refused


def read_json(name: EncoderName, file: str, cache: str | None = None) -> Any:
    """Read a file of a model.

    Args:
        name: whose model is a directory or the name of one on the hub.
        file: its path in there.
        cache: where the hub's files are kept; None is the hub's own choice.

    Raises:
        RecipeError: there is no such model or file, the hub cannot be reached, or it is not JSON.
            Its cause is the original error.
    """
    folder = Path(name.model).expanduser()
    try:
        path = folder / file
        if not folder.is_dir():
            path = Path(hf_hub_download(name.model, file, revision=name.revision, cache_dir=cache))
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise refused(name, error, f"its {file} cannot be read") from error
