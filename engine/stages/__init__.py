"""The stages of mining: a part's rows in, the stage's table out. No Ray in here."""

from engine.stages.build import build_stages
from engine.stages.part import Part, Slices
from engine.stages.stage import Stage, Tally, columns_of

__all__ = ["Part", "Slices", "Stage", "Tally", "build_stages", "columns_of"]
