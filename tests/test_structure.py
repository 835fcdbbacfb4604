"""What docs/architecture.md says of the house as a whole, read from its imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for place in ("engine", "jobs") for path in (ROOT / place).rglob("*.py")}


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, at its top or in a function; not those for types alone."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inner_module = f"{node.module}.{name.name}"
                yield inner_module if inner_module in MODULES else node.module


def test_no_module_needs_itself() -> None:
    """Also by imports in functions, which hide a circle from Python and not from a reader."""
    needs = {name: (set(imported(path)) & MODULES.keys()) - {name} for name, path in MODULES.items()}
    assert needs["jobs.command"] > {"jobs.prepare", "jobs.analysis"} and needs["engine.encoders.names"]
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        raise AssertionError(f"these import each other in a circle: {' <- '.join(error.args[1])}") from error


def packages_that_import(library: str) -> set[str]:
    return {
        ".".join(name.split(".")[:2])
        for name, path in MODULES.items()
        if any(each == library or each.startswith(f"{library}.") for each in imported(path))
    }


def test_ray_is_where_the_plan_says() -> None:
    assert packages_that_import("ray") == {"engine.flow", "engine.training", "engine.submission"}
    assert packages_that_import("ray.data") == {"engine.flow"}
    assert packages_that_import("ray.train") == {"engine.training"}
    assert packages_that_import("ray.job_submission") == {"engine.submission"}
