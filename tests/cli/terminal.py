"""A command at a pseudo-terminal of its own, with a planner whose plans are written beforehand."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pexpect

HERE = Path(__file__).resolve().parent
PROMPT = r">[^\n]*\x1b\[\?25h"  # drawn, and the cursor shown


class Terminal:
    """A command at a terminal; other requests than those with a plan get ``join()``."""

    def __init__(self, *command: str, plans: Mapping[str, str], **env: str):
        self.child: Any = pexpect.spawn(
            sys.executable,
            [str(HERE / "scripted.py"), *command],
            env={
                **os.environ,
                "PLANS": json.dumps(dict(plans)),
                "TERM": "xterm",
                "PROMPT_TOOLKIT_NO_CPR": "1",
                **env,
            },
            encoding="utf-8",
            timeout=60,
            dimensions=(40, 120),
        )
        self.child.ptyproc.delayafterterminate = 0.5  # seconds; a busy machine needs them
        self.seen = io.StringIO()
        self.child.logfile_read = self.seen

    def expect(self, pattern: str) -> str:
        """Wait for a pattern; returns what came before it."""
        self.child.expect(pattern)
        return plain(self.child.before)

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns exit code and the rest of what was shown."""
        self.child.expect(pexpect.EOF)
        rest = plain(self.child.before)
        self.child.close()
        return self.child.exitstatus, rest


def plain(text: str) -> str:
    """Drop escape sequences and carriage returns."""
    return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>])", "", text).replace("\r", "")
