"""Offline synthesis: requests and their plans for any tool set, from grammars and lexicons."""
