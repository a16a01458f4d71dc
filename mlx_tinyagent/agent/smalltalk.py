"""What is no request at all: greetings, thanks, "what can you do"; answered without the model.

A small planner finds a tool for everything, also for "hello".
"""

from __future__ import annotations

import re

from mlx_tinyagent.tools.base import ToolSet

_GREETING = re.compile(
    r"(?:hi|hello|hey|hiya|howdy|good (?:morning|afternoon|evening|day)|hallo)"
    r"(?: (?:there|again|everyone))?",
    re.IGNORECASE,
)
_THANKS = re.compile(
    r"(?:(?:ok|okay|great|perfect|nice|cool)[, ]*)?(?:thanks|thank you|thx|cheers)"
    r"(?: (?:a lot|so much|very much|again))?|(?:great|perfect|nice|cool|good|well done)",
    re.IGNORECASE,
)
_ABLE = re.compile(
    r"(?:what (?:can|do) you do|what can i (?:ask|say|do)|how does this work|help|who are you|"
    r"what are you)(?: for me| here)?",
    re.IGNORECASE,
)
_EXAMPLE = 'Type a request, such as "remind me to call Ana tomorrow at 9".'


def small_talk(text: str, tools: ToolSet) -> str | None:
    """Return the answer to what is no request; None if it may be one.

    Args:
        text: What the user said.
        tools: Enabled tools.
    """
    line = text.strip().rstrip(".!? ")
    if _GREETING.fullmatch(line):
        return f"Hello. {_EXAMPLE}"
    if _THANKS.fullmatch(line):
        return "You are welcome."
    if _ABLE.fullmatch(line):
        apps = sorted({tool.app for tool in tools if tool.app})
        about = f" for {', '.join(apps)}" if apps else ""
        return f"I plan with {len(tools)} tools{about}. {_EXAMPLE}"
    if not re.search(r"[^\W\d_]{2}", line):
        return f"I cannot read that. {_EXAMPLE}"
    return None
