"""From a run directory to what other tools read: Hugging Face, open_clip, WebDataset, CSV."""

from engine.export.settings import ExportSettings
from engine.export.write import export_run

__all__ = ["ExportSettings", "export_run"]
