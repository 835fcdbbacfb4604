"""The supervisor's own Ray job, which `connote submit --detach` starts: `python -m jobs.supervise ID`."""

from __future__ import annotations

import signal
import sys


def supervise(id: str) -> None:
    """Supervise the run whose supervisor on this cluster has this name."""
    from engine.submission.detached import supervise_from_inside
    from engine.submission.ray_jobs import RayJobs
    from engine.submission.supervise import Voice

    # Without the attempts' logs, which would be on the cluster twice.
    sys.exit(supervise_from_inside(RayJobs.inside(id), id, Voice(print)))


if __name__ == "__main__":
    from jobs.command import guarded

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(guarded(lambda: supervise(sys.argv[1])))
