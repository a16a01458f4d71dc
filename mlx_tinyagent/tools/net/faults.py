"""What goes wrong on the way to a server: one error, which knows whether the request got there."""

from __future__ import annotations

from mlx_tinyagent.tools.results import Failed, Result, Unknown


class NetError(Exception):
    """A server could not be asked, or its answer did not come.

    Args:
        reason: One line for people.
        sent: Whether the server may have got the request; then an effect may
            have taken place.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        self.reason, self.sent = reason, sent
        super().__init__(reason)

    @property
    def result(self) -> Result:
        """What a step that tried to change something ends in."""
        return Unknown(reason=self.reason) if self.sent else Failed(reason=self.reason)


def words(error: BaseException) -> str:
    """Return a system's or library's reason in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        text = "no answer in time"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
