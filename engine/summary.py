"""The summary of a run: what this session did, and how the whole run stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engine.flow.report import Session
from engine.status import StageStatus


def summarize(session: Session, states: Sequence[StageStatus], samples: int) -> dict[str, Any]:
    """The content of summary.json.

    Returns:
        `samples` of the run and the share of them that failed; `stages` with rows done, failed by
        reason and to do; `session` with what was computed now and at which speed: images/s,
        output tokens/s, and per pool its actors and the share of their time with requests at work,
        and that time in seconds, summed over the actors.
    """
    # Stages need not stand on each other: an image that cannot be described may have its vectors.
    failed = max((state.rows_failed for state in states), default=0)
    seconds = max(session.seconds, 1e-9)
    tokens = sum(stage.output_tokens for stage in session.stages.values())
    return {
        "samples": samples,
        "failed_samples": failed,
        "failed_share": failed / samples if samples else 0.0,
        "complete": all(state.rows_to_do == 0 for state in states),
        "stages": {
            state.name: {
                "fingerprint": state.fingerprint,
                "done": state.rows_done,
                "failed": state.failed,
                "to_do": state.rows_to_do,
            }
            for state in states
        },
        "session": {
            "samples": session.rows,
            "parts": session.parts,
            "seconds": round(session.seconds, 3),
            "images_per_s": round(session.rows / seconds, 2),
            "output_tokens_per_s": round(tokens / seconds, 2),
            "pools": {
                pool: {
                    "actors": len(actors),
                    "busy_share": round(session.busy_share(pool), 4),
                    "busy_s": round(session.busy_seconds(pool), 3),
                }
                for pool, actors in session.meters.items()
            },
            "stages": {name: asdict(stage) for name, stage in session.stages.items()},
        },
    }
