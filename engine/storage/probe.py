"""Whether another machine reaches a directory: what is left there is read, and a reply is left beside it."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import StorageError
from engine.storage.location import Location

#: Seconds that a machine has for its tries: a store that cannot be found is asked for minutes.
LIMIT_S = 45.0
#: Variables that decide whom a store is asked as, and where it is.
_VARIABLES = ("AWS_", "GOOGLE_", "CLOUDSDK_")


@dataclass(frozen=True)
class Probe:
    """A question to other machines; made by `leave`, taken away by `clear`.

    Attributes:
        root: the directory that they are to read and write.
        name: of this question; the hidden files in the directory begin with it.
        source: a file that they are to read, or None.
        variables: digests of the variables for object stores that are set here.
    """

    root: Location
    name: str
    source: Location | None
    variables: Mapping[str, str]

    @classmethod
    def leave(cls, root: Location, source: Location | None) -> Probe:
        """Put the question into the directory.

        Args:
            root: the directory.
            source: left out if it cannot be read here, which is no other machine's fault.

        Raises:
            StorageError: the directory cannot be written.
        """
        name = f".probe-{uuid.uuid4().hex}"
        if source is not None and _fault_of_reading(source):
            source = None
        probe = cls(root, name, source, _variables(name))
        probe._file("asked").write_bytes(name.encode())
        return probe

    def answer(self, node: str) -> str | None:
        """Try it on this machine, at most `LIMIT_S`; what is wrong, and None if nothing is."""
        found: list[str | None] = []
        thread = threading.Thread(target=lambda: found.append(self._try(node)), daemon=True)
        thread.start()
        thread.join(LIMIT_S)
        fault = found[0] if found else f"{self.root.uri}: does not answer within {LIMIT_S:g} s"
        return fault and fault + self._advice()

    def fault_of(self, node: str) -> str | None:
        """What is wrong with the answer that a machine says it gave, as seen from here."""
        reply = self._file(node)
        if reply.exists() and reply.read_bytes() == self.name.encode():
            return None
        return (
            f"{self.root.uri}: what it writes there is not seen here; name a directory that all nodes share"
        )

    def clear(self) -> None:
        """Take the question and its answers away."""
        for info in self.root.entries():
            if info.base_name.startswith(self.name):
                (self.root / info.base_name).delete()

    def _try(self, node: str) -> str | None:
        asked, reply = self._file("asked"), self._file(node)
        try:
            if not asked.exists():
                return (
                    f"{self.root.uri}: is not there, or is another directory than the one of that name where "
                    "this command runs; name one that all nodes share, such as s3://bucket/run"
                )
            reply.write_bytes(asked.read_bytes())
            if reply.read_bytes() != self.name.encode():
                return f"{self.root.uri}: what is written there is not what is read"
        except StorageError as error:
            reason = str(error)
            for place in (asked, reply, self.root):
                reason = reason.removeprefix(f"{place.uri}: ")
            return f"{self.root.uri}: {reason}"
        except Exception as error:  # whatever it is, the user is told of it with the node's name
            return f"{self.root.uri}: {type(error).__name__}: {error}"
        return _fault_of_reading(self.source) if self.source else None

    def _file(self, name: str) -> Location:
        return self.root / f"{self.name}-{name}"

    def _advice(self) -> str:
        """Which variables for object stores this machine lacks, or has otherwise."""
        if all(place.is_local for place in (self.root, self.source or self.root)):
            return ""
        here = _variables(self.name)
        missing = sorted(self.variables.keys() - here.keys())
        other = sorted(
            name for name in self.variables.keys() & here.keys() if here[name] != self.variables[name]
        )
        told = [f"not set there, but where this command runs: {', '.join(missing)}"] if missing else []
        told += [f"of another value than where this command runs: {', '.join(other)}"] if other else []
        return "".join(f"; {each}" for each in told)


def _fault_of_reading(source: Location) -> str | None:
    try:
        source.read_bytes(0, 1)
    except StorageError as error:
        return str(error)
    return None


def _variables(salt: str) -> dict[str, str]:
    """Digests: whether a secret is the same can be told without sending it."""
    return {
        name: hashlib.sha256(f"{salt} {value}".encode()).hexdigest()
        for name, value in os.environ.items()
        if name.startswith(_VARIABLES)
    }
