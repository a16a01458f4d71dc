"""A headless Chromium, driven over a pipe (Chrome DevTools Protocol); nothing to install."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-extensions", "--disable-background-networking", "--disable-component-update"),
    *("--disable-dev-shm-usage", "--no-proxy-server", "--window-size=1100,900"),
    *("--remote-debugging-pipe", "about:blank"),
)
WAIT = """
new Promise((done) => {{
  const look = () => Boolean({condition});
  if (look()) return done(true);
  const watch = new MutationObserver(() => look() && (watch.disconnect(), done(true)));
  watch.observe(document, {{
    attributes: true, childList: true, subtree: true, characterData: true,
  }});
  setTimeout(() => done(false), 60000);
}})
"""


def executable() -> str | None:
    """Return the browser's program, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a browser."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._answers, 1 << 16)
            assert chunk, "the browser has ended"
            self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        return message

    def evaluate(self, script: str) -> Any:
        """Run a script in the page and return its value."""
        done = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a condition of the page holds."""
        if not self.evaluate(WAIT.format(condition=condition)):
            shown = self.evaluate("document.body.innerText")
            raise AssertionError(f"{condition} did not come; the page shows: {shown}")

    def open(self, address: str) -> None:
        """Open an address and wait until it is shown."""
        self.call("Page.navigate", url="about:blank")  # else a new part behind # opens nothing
        self.call("Page.navigate", url=address)
        wanted = json.dumps(address.partition("#")[0])
        script = f"location.href.startsWith({wanted}) && document.readyState === 'complete'"
        while not self.evaluate(script):
            self.evaluate("new Promise((done) => setTimeout(done, 20))")

    def screenshot(self, path: Path) -> bytes:
        """Write a picture of the page; returns it."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        path.write_bytes(data)
        return data


@contextmanager
def browsing(program: str, folder: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own."""
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    # The browser reads commands at 3 and writes answers at 4: a small program moves them there.
    moving = "import os, sys; from fcntl import F_DUPFD, fcntl as f; "
    moving += "i, o = (f(int(number), F_DUPFD, 10) for number in sys.argv[1:3]); "
    moving += "os.dup2(i, 3); os.dup2(o, 4); os.execv(sys.argv[3], sys.argv[3:])"
    descriptors = (str(to_browser), str(from_browser))
    started = subprocess.Popen(
        [sys.executable, "-c", moving, *descriptors, program, f"--user-data-dir={folder}", *FLAGS],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Browser(commands, answers)
    finally:
        os.close(commands)
        started.terminate()
        started.wait(60)
        os.close(answers)
