"""A chat model behind any OpenAI-compatible endpoint.

The only place of the offline tools that sends anything anywhere, and only to the
address that was given.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mlx_tinyagent.errors import ModelError, UsageError

KEY_VARIABLE = "MLX_TINYAGENT_ENDPOINT_KEY"  # sent as bearer token where it is set
TIMEOUT_S = 120
MAX_ANSWER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an endpoint said.

    Attributes:
        text: The message.
        usage: The endpoint's own token counts, as it told them; None if it did not.
    """

    text: str
    usage: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatEndpoint:
    """An address that answers chats.

    Attributes:
        url: Base address, such as ``http://localhost:8080/v1``.
        model: The model's name there.
        timeout_s: Longest wait for one answer.

    Raises:
        UsageError: The address is none, or holds a password.
    """

    url: str
    model: str
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UsageError(
                f"the endpoint is {self.url!r}; expected an address such as http://localhost:8080/v1"
            )
        if parts.username or parts.password:  # it would stand in the run's configuration
            raise UsageError(f"the endpoint holds a password; put the key into {KEY_VARIABLE}")

    def complete(
        self,
        messages: Sequence[dict[str, str]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
    ) -> Answer:
        """Return the answer to a chat.

        Args:
            messages: ``role`` and ``content`` of each.
            max_tokens: Most tokens to write.
            temperature: 0 is greedy.
            stop: Texts that end the answer.

        Raises:
            ModelError: The endpoint cannot be reached, refuses, or answers in
                another format.
        """
        body = {
            "model": self.model,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": max_tokens,
            **({"stop": list(stop)} if stop else {}),
        }
        answer = self._post(body)
        match answer:
            case {"choices": [{"message": {"content": str(text)}}, *_]}:
                return Answer(text=text, usage=answer.get("usage"))
        raise ModelError(f"{self.url} answered without a message: {json.dumps(answer)[:200]}")

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions",
            data=json.dumps(body).encode(),
            headers=headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
                data = answer.read(MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            detail = error.read(300).decode("utf-8", "replace")
            raise ModelError(
                f"{self.url} refused with status {error.code}: {' '.join(detail.split())}"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ModelError(f"{self.url} cannot be used: {reason}") from error
        if len(data) > MAX_ANSWER_BYTES:
            raise ModelError(f"{self.url} answered with more than {MAX_ANSWER_BYTES} bytes")
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{self.url} answered with something that is no JSON") from error
