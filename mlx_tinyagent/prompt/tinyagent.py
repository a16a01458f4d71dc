"""TinyAgent's prompt layout: for its own weights, and as the baseline of benchmarks.

Order and content are those of SqueezeAILab/TinyAgent: the number of tools in
the first sentence, numbered tools, ``join``, guidelines, the date, rules for
the tools at hand, examples, and the question last. Almost nothing of it can
be reused between requests that are offered different tools. Its wording here
is our own, so for the released weights it is near to what they were trained
on, not equal to it.
"""

from __future__ import annotations

from mlx_tinyagent.prompt.render import Piece, Prompt, Request, Segment
from mlx_tinyagent.tools.base import Param, Tool, ToolSet

FORMAT = "tinyagent"
END = "<END_OF_PLAN>"

_TYPES = {"int": "int", "float": "float", "bool": "bool"}

JOIN = """\
join() -> str:
 - Collects the results of all actions before it and decides on the answer to the user, or on \
another plan if the results are not enough.
 - Always the last action. It is called when the collected results answer the question, or when \
no action can.
 - Takes no arguments; its results are those of every earlier action, whether they depend on each \
other or not.

"""

GUIDELINES = """\
Guidelines:
 - Each action above lists the types of its inputs and what it returns; keep to them strictly.
 - The description of an action holds its own rules; follow them whenever you use it.
 - Every action of the plan is one of those above. Write it as a Python call.
 - Every action has a number of its own, and the numbers go up by one.
 - An input is a constant or the output of an earlier action. For an output write $id, where id is \
the number of the action that gives it.
 - Call join as the last action, and say '<END_OF_PLAN>' after it.
 - Let as many actions as possible run side by side.
 - Use only the actions given. If they cannot answer the question, call join alone.
 - Do not explain the plan with comments.
 - Do not invent actions that are not listed.
 - Start with action 1.

"""

INSTRUCTIONS = """\
 - A meeting lasts 60 minutes unless the question says otherwise.
 - Do not use named arguments; give every argument in its place, "" or [] where there is nothing.
 - Write dates as YYYY-MM-DD HH:MM:SS.
 - Put join on a line of its own at the end.
 - To use the output of an action write '$' and its number, also inside a list.
"""

# Rules that upstream shows only with the tools they are about.
RULES = {
    "get_email_address": "Get the address of every person before writing or inviting them.",
    "get_phone_number": "Get the phone number of every person before sending a message.",
    "send_sms": "Send one message to several people with one action, and send it before join.",
    "get_zoom_meeting_link": "Use the Zoom action for every online meeting that needs a link.",
    "append_note_content": "Append to a note without opening it first.",
    "maps_show_directions": "Show directions without opening the location first.",
}

EXAMPLES = """\
Question: Email Dana and Sam that the review moved to Friday.
1. get_email_address("Dana")
2. get_email_address("Sam")
3. compose_new_email(["$1", "$2"], [], "Review moved", "The review moved to Friday.", [])
4. join()<END_OF_PLAN>
###
Question: Set up lunch with Robin tomorrow at noon and text them the place, Cafe Luna.
1. get_email_address("Robin")
2. create_calendar_event("Lunch", "2024-01-01 12:00:00", "2024-01-01 13:00:00", "Cafe Luna", \
["$1"], "", None)
3. get_phone_number("Robin")
4. maps_open_location("Cafe Luna")
5. send_sms(["$3"], "Lunch tomorrow at noon: $4")
6. join()<END_OF_PLAN>
###
Question: Summarize Plan.pdf into my note Ideas.
1. open_and_get_file_path("Plan.pdf")
2. summarize_pdf("$1")
3. append_note_content("Ideas", "$2", "")
4. join()<END_OF_PLAN>
###
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
        f"Every step is one of these {count} actions:\n"
    ]
    system += [f"{number}. {_describe(tool)}\n" for number, tool in enumerate(tools, start=1)]
    system += [f"{count}. {JOIN}", GUIDELINES]
    if request.now is not None:
        system.append(f" - Today is {request.now:%A %Y-%m-%d %H:%M}.\n")
    system.append(INSTRUCTIONS)
    system += [f" - {rule}\n" for name, rule in RULES.items() if name in tools]
    if request.instructions:
        system.append(f" - {request.instructions.strip()}\n")
    system.append(f"\nHere are some examples:\n\n{EXAMPLES}")
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
