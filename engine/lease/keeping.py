"""Holding a lease while a command works: a thread renews it, and ends the command if it is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine.errors import StorageError
from engine.lease.lease import Lease
from engine.lease.watch import Timing
from engine.storage import Location

#: Tells the main thread that the lease is lost. Not SIGINT: what a shell starts in the background
#: ignores that.
_LOST = signal.SIGUSR1


@contextmanager
def held(
    directory: Location,
    command: str,
    *,
    wait: bool = False,
    say: Callable[[str], None] = print,
    timing: Timing | None = None,
) -> Iterator[None]:
    """Work on a directory alone.

    The lease is released at the end, also after an error or Ctrl-C. If it becomes another's (see
    `lease`), the work is stopped as Ctrl-C stops it: at once, and with every table whole or absent.

    Args:
        directory: what is worked on; created if it is not there.
        command: what to call this command where others meet its lease.
        wait: for another that works there, instead of leaving.
        say: told whom this waits for.
        timing: by default what suits the filesystem.

    Raises:
        RunHeld: another command works there, or has taken over.
        StorageError: the directory cannot be read or written.
    """
    lease, made = Lease(directory, command, timing), _missing(directory)
    keeper = _Keeper(lease)
    with _interruptible() as interrupt:
        try:
            lease.acquire(wait, say)
            keeper.start(interrupt)
            yield
        except BaseException as error:
            if keeper.lost:
                raise lease.taken_over() from error
            raise
        finally:
            keeper.stop()
            # A store that fails now leaves a lease that expires.
            with suppress(StorageError):
                lease.release()
            for path in made:
                with suppress(OSError):  # there is something in it
                    path.rmdir()
        if keeper.lost:
            raise lease.taken_over()


class _Keeper:
    """Renews a lease in a thread of its own."""

    def __init__(self, lease: Lease) -> None:
        self.lost = False
        self._lease = lease
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, interrupt: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=self._keep, args=(interrupt,), name="lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        # Being told of the loss while one leaves anyway changes nothing; `lost` says it.
        with suppress(KeyboardInterrupt):
            if self._thread:
                self._thread.join(self._lease.timing.renew_s)  # unless the store keeps it

    def _keep(self, interrupt: Callable[[], None]) -> None:
        while not self._ended.wait(self._lease.timing.renew_s):
            try:
                if self._lease.renew():
                    continue
            except StorageError:
                continue  # a store that answers again finds the lease, or another's
            self.lost = True
            if not self._ended.is_set():
                interrupt()
            return


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """A function that stops the main thread as Ctrl-C would; elsewhere it does nothing."""
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield lambda: None
        return
    ident = main.ident
    assert ident is not None  # it has started
    before = signal.signal(_LOST, _stop)
    try:
        yield lambda: signal.pthread_kill(ident, _LOST)
    finally:
        signal.signal(_LOST, before)


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def _missing(directory: Location) -> list[Path]:
    """The directories that a lease will create, innermost first: a refused command leaves none."""
    found = []
    path = Path(directory.uri)
    while directory.is_local and not os.path.lexists(path):
        found.append(path)
        path = path.parent
    return found
