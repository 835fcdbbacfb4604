"""What a part's way through the pools looked like: the row of statistics that reaches the driver."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.stages import Tally


@dataclass
class StageReport:
    """One stage of one part. `failed` counts the error rows of its table by reason."""

    computed: int = 0  # rows computed now; 0 where the table was already committed
    seconds: float = 0.0
    requests: int = 0
    output_tokens: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, tally: Tally) -> None:
        """Take over what the stage counted."""
        self.requests, self.output_tokens = tally.requests, tally.output_tokens
        self.flags, self.counts = tally.flags, tally.counts


@dataclass
class PartReport:
    """One part. `meters` holds, by pool and actor, the generator's counters when it finished."""

    part: str
    rows: int
    stages: dict[str, StageReport] = field(default_factory=dict)
    meters: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def to_json(self) -> str:
        """The report as text; it travels beside the part."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> PartReport:
        """Read what `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        stages = {name: StageReport(**values) for name, values in data["stages"].items()}
        return cls(data["part"], data["rows"], stages, data["meters"])


@dataclass
class Session:
    """The sum of the reports of one session."""

    rows: int = 0
    parts: int = 0
    seconds: float = 0.0
    stages: dict[str, StageReport] = field(default_factory=dict)
    meters: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def add(self, report: PartReport) -> None:
        """Add a part's report. An actor's counters only grow, so the largest are the latest."""
        self.rows += report.rows
        self.parts += 1
        for name, stage in report.stages.items():
            total = self.stages.setdefault(name, StageReport())
            total.computed += stage.computed
            total.seconds += stage.seconds
            total.requests += stage.requests
            total.output_tokens += stage.output_tokens
            for mine, theirs in (
                (total.failed, stage.failed),
                (total.flags, stage.flags),
                (total.counts, stage.counts),
            ):
                mine.update(Counter(mine) + Counter(theirs))
        for pool, actors in report.meters.items():
            for actor, meter in actors.items():
                known = self.meters.setdefault(pool, {}).get(actor)
                if known is None or meter["alive_s"] > known["alive_s"]:
                    self.meters[pool][actor] = meter

    def busy_seconds(self, pool: str) -> float:
        """How long the pool's generators had work, summed over its actors."""
        return sum(meter["busy_s"] for meter in self.meters.get(pool, {}).values())

    def busy_share(self, pool: str) -> float:
        """The share of its actors' lives in which the pool's generators had work."""
        alive = sum(meter["alive_s"] for meter in self.meters.get(pool, {}).values())
        return self.busy_seconds(pool) / alive if alive else 0.0
