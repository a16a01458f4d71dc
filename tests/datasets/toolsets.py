"""A second tool set: a house and a workshop, nothing of the Mac's."""

from __future__ import annotations

from typing import Annotated, Literal

from mlx_tinyagent.tools.base import Arg, Kind, Span, Template, ToolSet, Type, When, tool

Person = Annotated[
    str, Arg(kind=Kind.SPAN, accepts=frozenset({Type.EMAIL}), entity="contact-email")
]


@tool(effect="read", returns="text")
def get_forecast(city: Span, day: When = "") -> str:
    """Give the weather forecast of a city.

    Args:
        city: name of the city
        day: which day
    """
    return f"Mild in {city}. {day}"


@tool(effect="read", returns="email")
def find_colleague(name: Span) -> str:
    """Look up a colleague's address.

    Args:
        name: one person
    """
    return f"{name.split(' ')[0].lower()}@workshop.example"


@tool(effect="write")
def set_thermostat(
    room: Span, degrees: int, mode: Literal["heat", "cool", "auto"] = "auto"
) -> None:
    """Set a room's temperature.

    Args:
        room: which room
        degrees: target
        mode: how
    """


@tool(effect="write")
def book_room(room_name: Span, start: When, guests: list[Person] = []) -> None:  # noqa: B006
    """Book a meeting room.

    Args:
        room_name: which room
        start: when it starts
        guests: who comes
    """


@tool(effect="send")
def post_update(channel: Span, message: Template) -> None:
    """Post a message to a channel.

    Args:
        channel: where
        message: what to say
    """


WORKSHOP = ToolSet(
    "workshop", [get_forecast, find_colleague, set_thermostat, book_room, post_update]
)
