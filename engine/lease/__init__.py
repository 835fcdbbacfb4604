"""Who works on a directory: one command at a time, told by a file in it that its holder renews."""

from engine.lease.holder import Holder
from engine.lease.keeping import held
from engine.lease.lease import LEASE, Lease
from engine.lease.watch import Timing

__all__ = ["LEASE", "Holder", "Lease", "Timing", "held"]
