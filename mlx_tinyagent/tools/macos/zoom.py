"""Meetings through Zoom's REST API, with a token of the user's.

https://developers.zoom.us/docs/api/meetings/: the key of a meeting stands in
its agenda, where it is looked for before anything is tried again.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from mlx_tinyagent.tools.net.account import LOOPBACK
from mlx_tinyagent.tools.net.faults import NetError, words
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Result, Unknown, Value

API = "https://api.zoom.us/v2"
TOKEN_VARIABLE = "MLX_TINYAGENT_ZOOM_TOKEN"
MAX_TOPIC = 200  # characters, the API's limit
MAX_ANSWER = 2**20  # bytes
_REFUSALS = {
    401: "Zoom does not accept the token; make a new one",
    403: "the token does not allow making meetings",
    429: "Zoom wants to be asked less often; try again later",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Zoom:
    """One user's Zoom account.

    Attributes:
        token: Sent to the API alone; never shown.
        api: Where the API is.
        timeout_s: How long it may keep silent, in seconds.
    """

    token: str = field(repr=False)
    api: str = API
    timeout_s: float = 20.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.api)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise ValueError(f"{self.api!a} would send the token in the open")

    def create(self, *, topic: str, start: datetime, minutes: int, name: str) -> Result:
        """Make a meeting, unless an earlier call did.

        Args:
            topic: Its title.
            start: Local time without a zone.
            minutes: How long it lasts.
            name: What its agenda carries.
        """
        known = self.find(name)
        if not isinstance(known, NotFound):
            return known
        body = {
            "topic": topic[:MAX_TOPIC],
            "type": 2,  # scheduled
            "start_time": f"{start.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "duration": minutes,
            "agenda": name,
        }
        try:
            return _meeting(self._call("POST", "/users/me/meetings", body))
        except NetError as error:
            if not error.sent:
                return error.result
            found = self.find(name)
            return found if isinstance(found, Ok) else error.result

    def find(self, name: str) -> Result:
        """Look for a meeting by what its agenda carries."""
        page = ""
        try:
            while True:
                path = "/users/me/meetings?type=scheduled&page_size=300"
                answer = self._call("GET", path + (f"&next_page_token={page}" if page else ""))
                for item in answer.get("meetings", ()):
                    if item.get("agenda") == name:
                        return _meeting(item)
                page = str(answer.get("next_page_token") or "")
                if not page.isalnum():
                    return NotFound(what="the meeting")
        except NetError as error:
            return Unknown(reason=error.reason) if error.sent else Failed(reason=error.reason)

    def delete(self, number: str) -> Result:
        """Delete a meeting."""
        if not number.isdigit():
            return Failed(reason=f"{number!a} is no meeting of Zoom's")
        try:
            self._call("DELETE", f"/meetings/{number}")
        except NetError as error:
            return NotFound(what="the meeting") if " 404" in error.reason else error.result
        note = "Deleted the meeting."
        return Ok(value=Value(text=note), note=note, record=f"zoom:{number}")

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make one request.

        Raises:
            NetError: Zoom refuses or does not answer.
        """
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.api + path, data, headers, method=method)
        writes = method != "GET"
        try:
            with _OPENER.open(request, timeout=self.timeout_s) as response:
                content = response.read(MAX_ANSWER)
            answer = json.loads(content) if content else {}
        except urllib.error.HTTPError as error:
            error.close()
            reason = _REFUSALS.get(error.code, f"Zoom answers with status {error.code}")
            raise NetError(reason, sent=writes and error.code >= 500) from error
        except (OSError, ValueError) as error:
            cause = getattr(error, "reason", error)
            unsent = isinstance(cause, ConnectionRefusedError)
            text = words(cause) if isinstance(cause, BaseException) else str(cause)
            raise NetError(f"Zoom did not answer: {text}", sent=writes and not unsent) from error
        return answer if isinstance(answer, dict) else {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token goes nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect())


def _meeting(item: Mapping[str, Any]) -> Result:
    """Make a result of a meeting as the API gives it."""
    url, number = str(item.get("join_url", "")), str(item.get("id", ""))
    if urlsplit(url).scheme != "https" or not number.isdigit():
        return Unknown(reason="Zoom's answer holds no link; look at your meetings there")
    return Ok(value=Value(text=url, fields={"url": url}), record=f"zoom:{number}")
