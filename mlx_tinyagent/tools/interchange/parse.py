"""The one boundary behind which files are parsed: bytes to records, or ``InterchangeError``."""

from __future__ import annotations

from datetime import tzinfo
from zoneinfo import ZoneInfo

from mlx_tinyagent.tools.interchange.eml import read_letter
from mlx_tinyagent.tools.interchange.ics import read_calendar
from mlx_tinyagent.tools.interchange.markdown import read_page
from mlx_tinyagent.tools.interchange.records import MAX_BYTES, Content, InterchangeError
from mlx_tinyagent.tools.interchange.vcf import read_cards

KINDS = {".ics": "ics", ".vcf": "vcf", ".eml": "eml", ".md": "md", ".markdown": "md"}


def parse(
    kind: str, content: bytes, *, zone: tzinfo | None = None, stem: str = "", folder: str = ""
) -> Content:
    """Read one file's bytes.

    Args:
        kind: ``ics``, ``vcf``, ``eml`` or ``md``.
        content: The bytes.
        zone: What local time is; None for the machine's zone.
        stem: The file's name without its extension.
        folder: Name of the folder it lies in.

    Raises:
        InterchangeError: It cannot be read; no other error comes out.
    """
    if len(content) > MAX_BYTES:
        raise InterchangeError(f"it is larger than {MAX_BYTES >> 20} MiB")
    try:
        match kind:
            case "ics":
                return read_calendar(content, zone)
            case "vcf":
                return read_cards(content)
            case "eml":
                return read_letter(content, zone)
            case _:
                return read_page(content, stem=stem, folder=folder)
    except InterchangeError:
        raise
    except (ValueError, OverflowError, RecursionError, LookupError) as error:
        raise InterchangeError(f"it is damaged ({type(error).__name__})") from error


def local_zone(name: str) -> tzinfo | None:
    """Return the zone of a name; None, the machine's own, for an empty one."""
    return ZoneInfo(name) if name else None
