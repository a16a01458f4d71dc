"""``mlx-tinyagent listen``: a spoken request, written down, then planned as a typed one."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from mlx_tinyagent.cli.common import (
    adapter_option,
    backend_option,
    check_query,
    model_option,
    status,
    tools_option,
)
from mlx_tinyagent.errors import InputError, UsageError

MAX_SAID = 2000  # characters of an answer that are spoken
SAY_S = 180.0  # longest time that speaking takes


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--seconds",
    default=6.0,
    show_default=True,
    type=click.FloatRange(1, 60),
    help="How long the microphone is open.",
)
@click.option("--endpoint", metavar="URL", help="OpenAI-compatible server, ending in /v1.")
@click.option(
    "--speech-model",
    metavar="NAME",
    help="Who writes down. [default: whisper-1 at a server, else mlx-community/whisper-tiny]",
)
@click.option("--text", "text_only", is_flag=True, help="Print what was said; plan nothing.")
@click.option("--say", "spoken", is_flag=True, help="Also speak the answer (macOS).")
@model_option
@adapter_option
@tools_option
@backend_option
def listen(
    file: Path | None,
    seconds: float,
    endpoint: str | None,
    speech_model: str | None,
    text_only: bool,
    spoken: bool,
    model: str,
    adapter: str | None,
    tools_name: str,
    backend: str,
) -> int:
    """Plan and run one spoken request.

    FILE is a WAV file; without it the microphone is recorded. What was said is
    written down by mlx-whisper on this machine, or by the server of --endpoint,
    and shown; then it goes the way of `ask`: a plan that changes something is
    shown and runs only after a yes, which is typed.
    """
    from mlx_tinyagent.cli import speech
    from mlx_tinyagent.cli.ask import answer
    from mlx_tinyagent.cli.talk import visible

    if spoken and sys.platform != "darwin":
        raise UsageError("--say speaks by macOS's own 'say', which is not here; leave it out")
    scribe: speech.Speech = (
        speech.SpeechEndpoint(url=endpoint, model=speech_model or speech.ENDPOINT_MODEL)
        if endpoint
        else speech.LocalSpeech(model=speech_model or speech.LOCAL_MODEL)
    )
    sound = speech.read_wav(file) if file is not None else _recorded(seconds)
    with status("Listening"):
        said = " ".join(scribe.write_down(sound).split())
    if not said:
        raise InputError("no words were heard")
    query = check_query(said)
    if text_only:
        click.echo(visible(query))
        return 0
    click.echo(f"heard: {visible(query)}", err=True)
    reply = answer(
        query,
        dry_run=False,
        yes=False,
        model=model,
        adapter=adapter,
        tools_name=tools_name,
        backend=backend,
    )
    click.echo(visible(reply.text))
    if spoken:
        say(reply.text)
    return reply.exit_code


def _recorded(seconds: float) -> bytes:
    from mlx_tinyagent.cli.speech import record

    click.echo(f"speak now, for {seconds:g} s ...", err=True)
    return record(seconds)


def say(text: str) -> None:
    """Speak a text by macOS's ``say``; a failure is a line on standard error.

    The text goes through a private file, so that none of it is read as an
    option, and brackets, in which ``say`` takes commands, are left out.
    """
    from mlx_tinyagent.tools.macos.runner import Runner

    plain = text.replace("[[", "").replace("]]", "")[:MAX_SAID]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:  # mode 0600
        file.write(plain)
        file.flush()
        done = Runner().run("say", "-f", file.name, deadline_s=SAY_S)
    if done.ending != "exit" or done.code:
        reason = done.stderr.decode("utf-8", "replace").strip() or done.ending
        click.echo(f"the answer could not be spoken: {reason}", err=True)
