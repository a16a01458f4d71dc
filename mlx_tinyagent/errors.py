"""Every error the package raises on purpose, drawn as a tree.

TinyAgentError                 one readable line for the user; carries an exit code
├── InputError          (1)    data, file or plan given by the user cannot be used
│   ├── RecordError     (1)    a line of a data file, with file:line:column
│   └── PlanError       (1)    a plan that cannot run, with its line
├── UsageError          (2)    a name or option that does not exist
├── ConfigError         (1)    a configuration file or value
├── RefusedError        (3)    the user, the policy or a missing terminal said no
├── ModelError          (4)    weights, tokenizer, context limit
│   ├── FetchError      (4)    a model could not be obtained
│   └── ContextError    (4)    the prompt does not fit
├── ToolError           (5)    a tool failed
├── QuestionError       (6)    an answer from the user is needed
└── StoreError          (1)    the local store cannot be read or written

Exit codes are the documented ones of the command line. Bugs are not in this
tree: they stay ordinary exceptions.
"""

from __future__ import annotations

from pathlib import Path


class TinyAgentError(Exception):
    """Base of all deliberate errors: ``str(error)`` is one readable line."""

    exit_code = 1


class InputError(TinyAgentError):
    """Something the user gave cannot be used."""


class RecordError(InputError):
    """A line of a data file is broken.

    Args:
        path: The file.
        line: Line number, from 1.
        column: Column, from 1; 1 where the whole line is at fault.
        reason: What was found and what was expected.
    """

    def __init__(self, path: Path | str, line: int, column: int, reason: str) -> None:
        self.path, self.line, self.column, self.reason = path, line, column, reason
        super().__init__(f"{path}:{line}:{column}: {reason}")


class PlanError(InputError):
    """A plan breaks a rule.

    Args:
        reason: What was found and what the rule is.
        line: Number of the step or text line at fault, from 1; None for the whole plan.
        rule: Short stable name of the rule, such as ``arity`` or ``forward-reference``.
    """

    def __init__(self, reason: str, *, line: int | None = None, rule: str = "syntax") -> None:
        self.reason, self.line, self.rule = reason, line, rule
        super().__init__(f"plan line {line}: {reason}" if line is not None else f"plan: {reason}")


class UsageError(TinyAgentError):
    """A name or option that does not exist."""

    exit_code = 2


class ConfigError(TinyAgentError):
    """A configuration file or value cannot be used."""


class RefusedError(TinyAgentError):
    """The user, the policy or a missing terminal said no; nothing was done."""

    exit_code = 3


class ModelError(TinyAgentError):
    """A model, adapter or tokenizer cannot be used."""

    exit_code = 4


class FetchError(ModelError):
    """A model could not be obtained from any source."""


class ContextError(ModelError):
    """The prompt does not fit the model's context."""


class ToolError(TinyAgentError):
    """A tool failed."""

    exit_code = 5


class QuestionError(TinyAgentError):
    """The request cannot go on without an answer from the user."""

    exit_code = 6


class StoreError(TinyAgentError):
    """The local store cannot be read or written."""
