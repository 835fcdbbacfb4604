"""Writes what the pinned cuML takes, for `test_cuml_calls`: its wheel cannot be imported without a GPU.

    python -m tests.clustering.record_cuml cuml_cu13-26.10.0-cp311-abi3-....whl

reads the Cython sources that lie in the wheel and writes `cuml-26.10.json` beside this file.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

SOURCES = {"UMAP": "cuml/manifold/umap/umap.pyx", "HDBSCAN": "cuml/cluster/hdbscan/hdbscan.pyx"}
METHODS = {"UMAP": ("__init__", "fit_transform"), "HDBSCAN": ("__init__", "fit")}
#: Where a class accepts names of algorithms: the names follow in braces.
ALGORITHMS = {"UMAP": r"^_BUILD_ALGOS = (\{.*?\})", "HDBSCAN": r"`build_algo` must be one of (\{.*?\})"}


def record(wheel: Path) -> dict[str, Any]:
    """The reference: version, and of each class its methods' parameters, attributes and algorithms."""
    with zipfile.ZipFile(wheel) as files:
        texts = {name: files.read(path).decode() for name, path in SOURCES.items()}
    return {
        "version": wheel.name.split("-")[1],
        **{name: _describe(name, text) for name, text in texts.items()},
    }


def _describe(name: str, text: str) -> dict[str, Any]:
    body = class_body(text, name)
    return {
        "methods": {method: parameters(body, method) for method in METHODS[name]},
        "attributes": sorted(attributes(body)),
        "build_algo": sorted(ast.literal_eval(_only(ALGORITHMS[name], text))),
        "build_kwds": {key: ast.literal_eval(value) for key, value in _looked_up(text)},
    }


def class_body(text: str, name: str) -> str:
    """From the line of the class to the next line that begins at the margin with something else."""
    start = re.search(rf"^class {name}\b", text, re.MULTILINE)
    if start is None:
        raise SystemExit(f"record_cuml: the sources have no class {name}")
    rest = text[start.end() :]
    # The bases may be listed on lines of their own, and their bracket closes at the margin.
    end = re.search(r"^(?:def|class|cdef|cpdef|@|\w+ *=)", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def parameters(body: str, method: str) -> list[str]:
    """The names of a method's parameters, `self` left out."""
    start = re.search(rf"^    def {method}\(", body, re.MULTILINE)
    if start is None:
        raise SystemExit(f"record_cuml: there is no method {method}")
    listed = _bracketed(body[start.end() - 1 :])
    # Cython types stand before a name (`int size=4`): Python's grammar knows only the name.
    plain = re.sub(r"(?<=[(,])(\s*)(?:(?:unsigned|long|const)\s+)*\w+[\s*]+(?=\w+\s*[=,)])", r"\1", listed)
    taken = ast.parse(f"def f{plain}: pass").body[0]
    assert isinstance(taken, ast.FunctionDef)
    names = [each.arg for each in (*taken.args.posonlyargs, *taken.args.args, *taken.args.kwonlyargs)]
    return [name for name in names if name != "self"]


def attributes(body: str) -> set[str]:
    """Public results, whose names end in an underscore: set, declared or computed."""
    found = re.findall(
        r"^    (\w+_) = |self\.(\w+_) = |@property(?:\s+@.*)*\s+def (\w+_)\(", body, re.MULTILINE
    )
    return {name for names in found for name in names if name and not name.startswith("_")}


def _bracketed(text: str) -> str:
    depth = 0
    for at, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if not depth:
            return text[: at + 1]
    raise SystemExit("record_cuml: a bracket is not closed")


def _looked_up(text: str) -> list[tuple[str, str]]:
    """The keys of `build_kwds` that are read, and their defaults."""
    return re.findall(r"""\b(?:build_)?kwds\.get\("(\w+)", *([\d.e-]+)\)""", text)


def _only(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"record_cuml: {pattern} is not in the sources")
    return found[1]


if __name__ == "__main__":
    made = record(Path(sys.argv[1]))
    short = ".".join(made["version"].split(".")[:2])
    target = Path(__file__).with_name(f"cuml-{short}.json")
    target.write_text(json.dumps(made, indent=1) + "\n")
    print(f"wrote {target}")
