"""The main path of the assistant: planner, executor, joiner."""
