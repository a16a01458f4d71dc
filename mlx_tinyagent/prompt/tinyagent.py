"""TinyAgent's prompt layout: for its own weights, and as the baseline of benchmarks.

The order is that of SqueezeAILab/TinyAgent: number of tools in the first
sentence, numbered tools, ``join``, guidelines, the date, and the question
last. Almost nothing of it can be reused between requests that are offered
different tools. Its wording here is our own, so for the released weights it is
near to what they were trained on, not equal to it.
"""

from __future__ import annotations

from mlx_tinyagent.prompt.render import Piece, Prompt, Request, Segment
from mlx_tinyagent.tools.base import Param, Tool, ToolSet

FORMAT = "tinyagent"
END = "<END_OF_PLAN>"

_TYPES = {"int": "int", "float": "float", "bool": "bool"}

GUIDELINES = """\
Guidelines:
 - Use only the actions above, with their input types, as in Python; give every argument.
 - Number the actions from 1 without gaps.
 - An argument is a constant or $id, the output of the action of that number.
 - Actions that do not depend on each other should not wait for each other.
 - Dates are written YYYY-MM-DD HH:MM:SS. A meeting lasts 60 minutes unless said.
 - Get an e-mail address before a mail and a phone number before a message.
 - If no action serves the question, call join alone.
 - Call join last, then write <END_OF_PLAN>.
"""


def render(request: Request, tools: ToolSet) -> Prompt:
    """Render a request in TinyAgent's layout: tools in label order, numbered, nothing static.

    Args:
        request: What a plan is wanted for.
        tools: Offered tools.
    """
    count = len(tools) + 1
    system = [
        "Write a plan for the user's question that can run in parallel where possible. "
        f"It consists of these {count} actions:\n"
    ]
    system += [f"{number}. {_describe(tool)}\n" for number, tool in enumerate(tools, start=1)]
    system.append(
        f"{count}. join() -> str:\n - Collects the results and answers. Always the last action.\n\n"
    )
    system.append(GUIDELINES)
    if request.now is not None:
        system.append(f" - Today is {request.now:%A %Y-%m-%d %H:%M}.\n")
    if request.instructions:
        system.append(f" - {request.instructions.strip()}\n")
    question = "".join(f"Question: {turn.query}\n{turn.plan}\n###\n" for turn in request.history)
    question += f"\nQuestion: {request.query.strip()}\n"
    return Prompt(
        (
            Segment("header", "system", (Piece("".join(system)),)),
            Segment("tail", "question", (Piece(question),)),
        )
    )


def _describe(tool: Tool) -> str:
    arguments = ", ".join(f"{param.name}: {_type(param)}" for param in tool.params)
    lines = [f"{tool.name}({arguments}) -> str:", f" - {tool.summary}"]
    lines += [f" - {param.name}: {param.meaning}." for param in tool.params if param.meaning]
    return "\n".join(lines) + "\n"


def _type(param: Param) -> str:
    name = _TYPES.get(param.kind.value, "str")
    return f"list[{name}]" if param.is_list else name
