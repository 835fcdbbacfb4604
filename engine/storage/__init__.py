"""Files on any filesystem: places, atomic commit, fingerprints, stage tables."""

from engine.storage.fingerprint import digest_of, digest_settings, model_digest
from engine.storage.local_copy import local_copy
from engine.storage.location import Location, locate
from engine.storage.tables import StageTables

__all__ = ["Location", "StageTables", "digest_of", "digest_settings", "local_copy", "locate", "model_digest"]
