"""The directory cluster/, as its tests read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"
IMAGE = "registry.example.com/connote"


def documents(path: Path) -> list[dict[str, Any]]:
    """The YAML documents of a file, without empty ones."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def one(path: Path) -> dict[str, Any]:
    """The only document of a file."""
    (document,) = documents(path)
    return document


def merged(base: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386), as kustomize applies a patch to a custom resource."""
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
