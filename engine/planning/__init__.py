"""What a run will take: requests, tokens, time, disk. Reads files only; no Ray in here."""

from engine.planning.estimate import Plan, PoolPlan, StagePlan, estimate
from engine.planning.figures import Figure, Origin
from engine.planning.measured import images_in, measured

__all__ = ["Figure", "Origin", "Plan", "PoolPlan", "StagePlan", "estimate", "images_in", "measured"]
