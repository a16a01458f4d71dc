"""Keep the WorkBench rows that one plan can answer.

    python recipes/workbench_rows.py imported.jsonl single.jsonl

A row stays if its calls follow from the request alone. Requests with a
condition ("If ...", "Check ...") or about an unknown number of things ("all my
...", "future meetings") need a look at the data before the plan is known. The
order is by chance, the same each time, so that the first rows are a sample.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

UNKNOWN = re.compile(
    r"\b(if|check|all|any|future|unfinished|overdue|in progress tasks|tasks that|my meetings)\b",
    re.IGNORECASE,
)
MOST = 2  # calls that a request of these spells out


def main(source: Path, target: Path) -> None:
    """Read, choose, write."""
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    kept = [
        row for row in rows if 1 <= len(row["plan"]) <= MOST and not UNKNOWN.search(row["query"])
    ]
    kept.sort(key=lambda row: hashlib.sha256(row["query"].encode()).digest())
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    target.write_text(text, encoding="utf-8")
    print(f"{len(kept)} of {len(rows)} rows can be answered by one plan", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
