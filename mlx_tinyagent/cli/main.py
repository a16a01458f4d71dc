"""The ``mlx-tinyagent`` command."""

from __future__ import annotations

import importlib

import click

from mlx_tinyagent.cli.common import run_cli

# Where each command lives and what the overview says; modules load when used.
COMMANDS = {
    "ask": ("ask", "Plan and run one request."),
    "run": ("ask", "Run a plan given as text."),
    "chat": ("chat", "Talk to the assistant."),
    "listen": ("listen", "Plan and run one spoken request."),
    "log": ("journal", "Show what was done."),
    "undo": ("journal", "Take back what a plan did."),
    "resume": ("journal", "Find out about runs that were cut off, and go on."),
    "serve": ("serve", "Serve plans to programs on this machine."),
    "mcp": ("serve", "Offer plan, ask and retrieve to MCP clients over stdio."),
    "plan": ("batch", "Plan every row of a file; nothing is executed."),
    "retrieve": ("retrieve", "Choose tools for every row of a file."),
    "train": ("train", "Fine-tune the planner on this machine."),
    "quantize": ("quantize", "Quantize a model, judge it by plans."),
    "quantize-classifier": (
        "quantize_classifier",
        "Quantize a tool classifier, judge it by the tools it chooses.",
    ),
    "data": ("data", "Import, check, count, split, generate and look at examples."),
    "eval": ("eval", "Score plans and tool retrieval; compare runs."),
    "report": ("report", "Write one page of what a recipe left."),
    "bench": ("bench", "Measure latency."),
    "cache": ("bench", "Show, build or clear the prompt parts kept on disk."),
    "tools": ("inspect", "Show declared tools."),
    "models": ("inspect", "Fetch, import and describe models."),
    "demo-data": ("inspect", "Fill the local store with a made-up world."),
    "outbox": ("outbox", "Send drafts for good."),
    "store": ("store", "Take the whole store along, or erase it."),
    "interchange": ("store_files", "Read and write files of other programs."),
    "init": ("init", "Begin an agent with tools of your own in DIR."),
    "use": ("use", "Save the model, adapter and tools to use; alone, show them."),
    "doctor": ("inspect", "Say what was found on this machine."),
}


class _LazyGroup(click.Group):
    """Loads a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"mlx_tinyagent.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mlx-tinyagent")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Private function calling on your own machine.

    A small language model plans a request with the tools it is given; the plan
    is checked and shown, and nothing changes before you say yes.

    Standard output carries the answer, or one JSON document with --json;
    everything else goes to standard error.
    """
    from mlx_tinyagent.cli.use import USERS, defaults

    if ctx.invoked_subcommand in USERS:
        defaults(ctx, ctx.invoked_subcommand)


def main() -> None:
    """Run the command line."""
    run_cli(cli)
