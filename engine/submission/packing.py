"""What of the working directory goes to the cluster: code, recipes, prompts and tables, not data."""

from __future__ import annotations

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import RecipeError
from engine.submission.ignoring import Ignored

_MIB = 2**20
#: Ray keeps a package in the memory of the head node and sends it to every node.
MOST_BYTES = 200 * _MIB
MOST_FILES = 20_000
#: Files that are data from this size on, by ending. The package's own small models are below it.
_WEIGHTS, _DATA = 32 * _MIB, 1 * _MIB
_LARGE = {
    **dict.fromkeys(
        (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack"), _WEIGHTS
    ),
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic"), _DATA),
    **dict.fromkeys((".tar", ".gz", ".tgz", ".zip", ".zst", ".parquet", ".arrow", ".npy", ".npz"), _DATA),
}
_SECRET = (".pem", ".key", ".p12")
_BUILT = ("__pycache__", "node_modules", "conda-meta")
_SHOWN = 5


@dataclass(frozen=True)
class Parcel:
    """The files of a working directory that are sent, and what was left out for its size or kind.

    Attributes:
        root: the working directory.
        files: relative to it, sorted.
        size: of them together, in bytes.
        left_out: what a user might miss, with the reason.
    """

    root: Path
    files: tuple[Path, ...]
    size: int
    left_out: tuple[str, ...]

    def write(self, target: Path) -> None:
        """Write a zip file: equal files, equal bytes, so that the cluster takes a package once."""
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in self.files:
                path = self.root / name
                entry = zipfile.ZipInfo(name.as_posix())
                entry.external_attr = (stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644)) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())

    def lines(self) -> Iterator[str]:
        """What is sent and what is not, for the user."""
        yield f"sending    {self.root}: files {len(self.files):,}, {_size(self.size)}"
        for reason in self.left_out[:_SHOWN]:
            yield f"           not {reason}"
        if (rest := len(self.left_out) - _SHOWN) > 0:
            yield f"           not {rest:,} others of such kinds"


def pack(root: Path, always: Path) -> Parcel:
    """Choose what is sent of a working directory.

    Left out are what .gitignore names, hidden files and folders (.git, .venv, .env), keys, run
    directories, virtual environments, what Python builds, and large weights, images and archives.

    Args:
        root: the working directory.
        always: a file in it that is sent whatever its name: the recipe.

    Raises:
        RecipeError: the files are too many or too large; the largest are named.
    """
    root, left_out = root.resolve(), list[str]()
    sizes: dict[Path, int] = {}
    for path in _files(root, Ignored.above(root), left_out):
        sizes[path] = path.stat().st_size
        if len(sizes) > MOST_FILES:
            _refuse_number(root, sizes)
    sizes[always.resolve()] = always.stat().st_size
    if sum(sizes.values()) > MOST_BYTES:
        _refuse_size(root, sizes)
    files = tuple(sorted(path.relative_to(root) for path in sizes))
    _check_names(root, files)
    return Parcel(root, files, sum(sizes.values()), tuple(left_out))


def _files(directory: Path, ignored: Ignored, left_out: list[str]) -> Iterator[Path]:
    ignored = ignored.within(directory)
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        left_out.append(f"{directory}: {error.strerror}")
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith(".") or entry.name in _BUILT or entry.name.endswith(".pyc"):
            continue
        if ignored.has(path, entry.is_dir()):
            continue
        if entry.is_dir():
            if reason := _no_code(path):
                left_out.append(f"{path}: {reason}")
            else:
                yield from _files(path, ignored, left_out)
        elif reason := _no_source(path):
            left_out.append(f"{path}: {reason}")
        else:
            yield path


def _no_code(directory: Path) -> str:
    """Why a folder is left out; "" if it is not."""
    if directory.is_symlink():
        return "a link to a folder"
    if (directory / "pyvenv.cfg").exists() or (directory / "conda-meta").is_dir():
        return "a virtual environment"
    makes = ("plan.parquet", "catalog", "stages", "models")
    if (directory / "recipe.yaml").is_file() and any((directory / name).exists() for name in makes):
        return "a run directory"
    return ""


def _no_source(path: Path) -> str:
    """Why a file is left out; "" if it is not."""
    if not path.is_file():
        return "no regular file"
    if path.suffix.lower() in _SECRET:
        return "a key"
    if not os.access(path, os.R_OK):
        return "may not be read"
    size = path.stat().st_size
    return f"data, {_size(size)}" if size > _LARGE.get(path.suffix.lower(), size) else ""


def _check_names(root: Path, files: tuple[Path, ...]) -> None:
    """Refuse a working directory whose own packages would be imported in place of Connote's."""
    names = {file.as_posix() for file in files}
    if {"jobs/mine.py", "engine/recipe/whole.py"} <= names:
        return  # a checkout: it is what runs
    for name in ("jobs", "engine"):
        if f"{name}/__init__.py" in names or f"{name}.py" in names:
            raise RecipeError(
                f"{root / name}: a package of this name would be imported instead of Connote's own; rename "
                "it, or submit from another directory"
            )


def _refuse_number(root: Path, sizes: dict[Path, int]) -> None:
    where = Counter(_top(root, path) for path in sizes).most_common(3)
    named = ", ".join(f"{name} ({count:,})" for name, count in where)
    raise RecipeError(
        f"{root}: more than {MOST_FILES:,} files, most of them in {named}; submit from the directory of the "
        "recipe and its code, or name in .gitignore what the jobs do not need"
    )


def _refuse_size(root: Path, sizes: dict[Path, int]) -> None:
    largest = sorted(sizes, key=lambda path: sizes[path], reverse=True)[:_SHOWN]
    named = ", ".join(f"{path.relative_to(root)} ({_size(sizes[path])})" for path in largest)
    folders = Counter[str]()
    for path, size in sizes.items():
        folders[_top(root, path)] += size
    within = ", ".join(f"{name} ({_size(size)})" for name, size in folders.most_common(3))
    raise RecipeError(
        f"{root}: {_size(sum(sizes.values()))} would be sent, and {_size(MOST_BYTES)} is the most; the "
        f"largest files are {named}, the largest folders {within}; name in .gitignore what the jobs do not "
        "need, and put data where the nodes reach it"
    )


def _top(root: Path, path: Path) -> str:
    first, *below = path.relative_to(root).parts
    return f"{first}/" if below else "."


def _size(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB" if size >= _MIB else f"{size / 1024:,.1f} KiB"
