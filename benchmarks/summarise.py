"""A table of finished runs: one row a method, mean ± standard deviation over seeds, cost as a ratio to Baseline.

    python benchmarks/summarise.py RUNS --out TABLE.csv [--without-cost]

reads every RUNS/*/result.json, writes one row a run to TABLE.csv and prints the summary as Markdown; without the cost
where the runs did not have the machine to themselves.
"""

import argparse
import json
from pathlib import Path

import pandas as pd


def row(record: dict) -> dict:
    """The figures of one run."""
    training, test = record["training"], record["test"]
    others = [who for who in test if who.startswith(("peer", "exit"))]
    return {
        "method": record["method"],
        "seed": record["seed"],
        "student": test["student"]["top1"],
        "others": sum(test[who]["top1"] for who in others) / len(others) if others else None,
        "ensemble": test["ensemble"]["top1"] if "ensemble" in test else None,
        "nll": test["student"]["nll"],
        "ece": test["student"]["ece"],
        "seconds_per_step": training["seconds"] / training["steps"],
        "peak_memory_mib": training["peak_memory_mib"],
        "epochs": training["epochs"],
        "train_images": record["train_images"],
        "model": record["model"],
        "classmates": record["environment"]["classmates"],
        "torch": record["environment"]["torch"],
        "cpu": record["environment"]["cpu"],
        "commit": record["environment"]["commit"],
    }


def spread(values: pd.Series, scale: float = 100) -> str:
    """``98.30 ± 0.21``, or the value alone where there is one, or nothing."""
    values = values.dropna() * scale
    if values.empty:
        return ""
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")


def summary(runs: pd.DataFrame, cost: bool) -> str:
    baseline = runs[runs["method"] == "Baseline"].mean(numeric_only=True)
    heads = ["method", "seeds", "student, %", "peers or exits, %", "ensemble, %"]
    heads += ["seconds a step", "×", "peak MiB", "×"] if cost else []
    lines = [" | ".join(heads), " | ".join(["---", *["---:"] * (len(heads) - 1)])]
    for method, group in runs.groupby("method", sort=False):
        cells = [str(method), str(len(group)), *(spread(group[who]) for who in ("student", "others", "ensemble"))]
        if cost:
            for figure, digits in (("seconds_per_step", 3), ("peak_memory_mib", 0)):
                mean = group[figure].mean()
                cells += [f"{mean:.{digits}f}", f"{mean / baseline[figure]:.2f}"]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--without-cost", action="store_true")
    arguments = parser.parse_args()
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(arguments.runs.glob("*/result.json"))]
    runs = pd.DataFrame(map(row, records))
    runs = runs.sort_values(["method", "seed"], key=lambda column: column.where(column != "Baseline", ""))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    runs.to_csv(arguments.out, index=False)
    print(summary(runs, cost=not arguments.without_cost))


if __name__ == "__main__":
    main()
