"""Decoding: the plan grammar, reusable prompt prefixes and the engine."""
