"""What backends outside the local store share: identifiers made from keys, and refused reads.

An effect on a server or in another application is not part of any transaction
of ours. So it carries a key, derived from the action, in a place that the
other side keeps: the UID of an event, the Message-ID of a mail, the URL field
of a Mac event.
"""

from __future__ import annotations

import hashlib
import secrets

from mlx_tinyagent.errors import ToolError
from mlx_tinyagent.tools.results import Result, explain

DOMAIN = "mlx-tinyagent.invalid"  # RFC 2606: never the name of a real host


class BackendError(ToolError):
    """A read that can return no result was refused; ``result`` says why.

    Args:
        result: ``PermissionNeeded``, ``Failed`` or ``Unknown``.
    """

    def __init__(self, result: Result) -> None:
        self.result = result
        super().__init__(explain(result))


def uid(key: str) -> str:
    """Return the identifier that carries a key: fixed length, safe in URLs and headers.

    Args:
        key: Any text; empty for an effect without a key, which is never found again by one.
    """
    if not key:
        return f"{secrets.token_hex(16)}@{DOMAIN}"
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{digest[:32]}@{DOMAIN}"
