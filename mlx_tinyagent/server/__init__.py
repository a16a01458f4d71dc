"""Offers plans to other programs: an OpenAI-style API, a local page, and MCP both ways."""
