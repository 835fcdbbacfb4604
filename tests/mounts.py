"""Commands that see other filesystems than the rest of the machine, where that may be done."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def _may() -> bool:
    found = shutil.which("unshare")
    return bool(
        found and subprocess.run([found, "-m", "true"], capture_output=True, check=False).returncode == 0
    )


needed = pytest.mark.skipif(not _may(), reason="needs the right to mount filesystems (unshare -m)")


def beneath(mounting: str) -> list[str]:
    """What to put before a command, so that it runs in mounts of its own after this shell command."""
    return ["unshare", "-m", "sh", "-c", f'{mounting} && exec "$@"', "sh"]
