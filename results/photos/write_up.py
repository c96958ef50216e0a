"""Put the tables of results/photos into its README, and the verdict of `improve` into the project's README.

    python results/photos/write_up.py IMPROVED_FOLDER

Each goes between two comments that name it; everything else stays as it is.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between the comments of this name on a page."""
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
    before = page.read_text(encoding="utf-8")
    if not pattern.search(before):
        raise SystemExit(f"{page} has no place for {name}")
    page.write_text(pattern.sub(lambda _: f"{marks[0]}\n{text}\n{marks[1]}", before), encoding="utf-8")


def main(improved: Path) -> None:
    verdict = json.loads((improved / "verdict.json").read_text(encoding="utf-8"))
    # Where the folder was is nobody's business.
    text = verdict["text"].replace(str(improved), "improved/photos")
    put(HERE.parents[1] / "README.md", "verdict", f"```text\n{text}\n```")
    for table in sorted(HERE.glob("*/table.md")):
        put(HERE / "README.md", table.parent.name, table.read_text(encoding="utf-8").strip())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
