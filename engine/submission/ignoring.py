"""What git leaves out of a directory: the .gitignore of every folder, the nearest one speaking last."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from engine.errors import RecipeError


@dataclass(frozen=True)
class Ignored:
    """The rules that hold in a folder, those of the outermost folder first."""

    rules: tuple[tuple[Path, GitIgnoreSpec], ...] = ()

    @classmethod
    def above(cls, directory: Path) -> Ignored:
        """The rules of the repository that a directory lies in, without its own; none outside one."""
        found = cls()
        if (directory / ".git").exists():
            return found
        parents = directory.parents
        root = next((i for i, parent in enumerate(parents) if (parent / ".git").exists()), None)
        for parent in [] if root is None else reversed(parents[: root + 1]):
            found = found.within(parent)
        return found

    def within(self, directory: Path) -> Ignored:
        """These rules and those of a folder below."""
        file = directory / ".gitignore"
        if not file.is_file():
            return self
        try:
            lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            return Ignored((*self.rules, (directory, GitIgnoreSpec.from_lines(lines))))
        except (OSError, ValueError) as error:
            raise RecipeError(f"{file}: cannot be used ({error}); mend it") from error

    def has(self, path: Path, is_directory: bool = False) -> bool:
        """Whether git would leave out this file or folder, its parents not asked."""
        for directory, spec in reversed(self.rules):
            name = path.relative_to(directory).as_posix() + ("/" if is_directory else "")
            if (told := spec.check_file(name).include) is not None:
                return told
        return False
