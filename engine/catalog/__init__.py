"""From sources to a catalog of samples, and from the catalog to parts and their images."""

from engine.catalog.first import first_file, first_planned
from engine.catalog.parts import plan_parts
from engine.catalog.read import PART_TABLE, read_part
from engine.catalog.shard import Shard
from engine.catalog.sources import ScannedShard, discover, scan
from engine.catalog.tables import CatalogTables, Catalogued, Update

__all__ = [
    "PART_TABLE",
    "CatalogTables",
    "Catalogued",
    "ScannedShard",
    "Shard",
    "Update",
    "discover",
    "first_file",
    "first_planned",
    "plan_parts",
    "read_part",
    "scan",
]
