"""Put the tables of results/photos into its README, and what `improve` said there and into the project's README.

    python results/photos/write_up.py

Each goes between two comments that name it; everything else stays as it is.
"""

from __future__ import annotations

import csv
import re
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


def main() -> None:
    for page, name, photos in ((HERE.parents[1] / "README.md", "verdict", 699), (HERE / "README.md", "few", 119)):
        verdict = (HERE / f"improve-{photos}.txt").read_text(encoding="utf-8").strip()
        put(page, name, f"```text\n{verdict}\n```")
    for table in sorted(HERE.glob("*/table.md")):
        # Of the page, what is under its title.
        put(HERE / "README.md", table.parent.name, table.read_text(encoding="utf-8").partition("\n")[2].strip())
    with (HERE / "before.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    put(HERE / "README.md", "before", "\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()
