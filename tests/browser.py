"""Chromium without a window, for the pages that Connote writes: opened, pointed at, looked at.

It is spoken to by its DevTools protocol over a websocket, which needs no driver beside the browser.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1200,900",
)


class BrowserPage:
    """One open page.

    Attributes:
        said: what the page wrote to the console as an error, what it threw, and each request that
            left it for anything but its own file.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, count(1)
        self.said: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; returns its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (told := json.loads(self._socket.recv(timeout=60))).get("id") != number:
            self._note(told["method"], told["params"])
        assert "result" in told, told
        result: dict[str, Any] = told["result"]
        return result

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60) -> Any:
        """Until an expression is true; its value."""
        end = time.monotonic() + seconds
        while not (value := self.value(expression)):
            assert time.monotonic() < end, f"never came: {expression}; the page said {self.said}"
            time.sleep(0.1)
        return value

    def point_at(self, x: float, y: float) -> None:
        """Move the mouse, to pixels from the upper left corner."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def turn_wheel(self, up: float, x: float, y: float) -> None:
        """Turn the mouse's wheel over a place, by so many pixels."""
        self.ask("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-up)

    def picture(self, target: Path) -> None:
        """Write a PNG of what is seen."""
        target.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def _note(self, event: str, about: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.said.append(str(about["exceptionDetails"].get("exception", about["exceptionDetails"])))
        if event == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.said.append(about["entry"]["text"])
        if event == "Network.requestWillBeSent" and not about["request"]["url"].startswith(
            ("file:", "data:", "blob:")
        ):
            self.said.append(f"asked for {about['request']['url']}")


@contextmanager
def opened(page: Path, home: Path) -> Iterator[BrowserPage]:
    """A page of a file in a browser of its own, whose files lie in an empty directory."""
    process = subprocess.Popen(
        [CHROMIUM, *_OPTIONS, f"--user-data-dir={home}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = _port(home / "DevToolsActivePort")
        with urlopen(Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")) as answer:
            address = json.load(answer)["webSocketDebuggerUrl"]
        with connect(address, max_size=None) as socket:
            shown = BrowserPage(socket)
            shown.ask("Page.navigate", url=page.as_uri())
            shown.wait_for("document.readyState == 'complete' && location.protocol == 'file:'")
            yield shown
    finally:
        process.terminate()
        process.wait(30)


def _port(file: Path, seconds: float = 60) -> int:
    """Where it listens, which it writes down when it is ready."""
    end = time.monotonic() + seconds
    while not (file.exists() and file.read_text().strip()):
        assert time.monotonic() < end, "Chromium did not start"
        time.sleep(0.1)
    return int(file.read_text().split()[0])
