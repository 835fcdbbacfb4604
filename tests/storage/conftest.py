from __future__ import annotations

from tests.catalog.conftest import bucket, s3_server

__all__ = ["bucket", "s3_server"]
