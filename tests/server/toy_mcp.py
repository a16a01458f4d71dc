"""A small MCP server over stdio, as anyone might write one; run as a program."""

from __future__ import annotations

import os
import sys
from typing import Literal

from mcp.server.mcpserver import MCPServer

server = MCPServer("toy")
notes: list[str] = []


@server.tool()
def find_person(name: str) -> str:
    """Find a person's address."""
    if name == "Nobody":
        raise ValueError(name)
    return f"{name.lower()}@toy.example"


@server.tool()
def send(to: str, text: str, urgency: Literal["low", "high"] = "low", copies: int = 1) -> str:
    """Send a text."""
    notes.append(to)
    return f"Sent {text!r} to {to} ({urgency}, {copies}, {len(notes)} in all)."


@server.tool()
def tree(node: dict[str, str]) -> str:
    """Take a nested value."""
    return str(node)


@server.tool()
def leave() -> str:
    """End at once."""
    os._exit(3)


@server.tool()
def environment() -> dict[str, str]:
    """Tell the environment."""
    return dict(os.environ)


if __name__ == "__main__":
    if sys.argv[1:] == ["--broken"]:
        sys.exit("this server does not start")
    server.run("stdio")
