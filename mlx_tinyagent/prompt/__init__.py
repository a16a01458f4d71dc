"""Prompts: one renderer for training and serving, and TinyAgent's layout beside it."""
