"""What the command's exit status says (README): a supervisor of jobs reads it as people's shells do."""

from __future__ import annotations

#: Some samples failed, but no more than the recipe allows, is a success.
OK, TOO_MANY_FAILED, REFUSED, STOPPED = 0, 1, 2, 3

#: Another command works on the run, or has taken it over.
HELD = 4

#: After Ctrl-C or SIGTERM, as shells report it.
INTERRUPTED = 130
