"""Which threads of a process go first, where a model computes on the same processors that feed it."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

#: Niceness is a weight: of a processor that both want, a thread this much behind gets a tenth.
_BEHIND, _LAST = 10, 19


def give_way() -> None:
    """Have the calling thread run where others leave it a processor.

    What decodes images beside a model on processors comes in bursts, one for each batch: as equals of the
    model's threads its own take a third of their time meanwhile, and then wait for the batch that they
    held up (`benchmarks.embed_speed`: 7 to 15 % of all images/s).
    """
    if sys.platform != "linux":
        return  # elsewhere niceness is the whole process's
    thread = threading.get_native_id()
    with suppress(OSError):  # a container that forbids it costs time, and no images
        niceness = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(niceness + _BEHIND, _LAST))
