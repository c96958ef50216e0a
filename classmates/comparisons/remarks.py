"""What has to be said beside the table of a comparison."""

from __future__ import annotations

import pandas as pd

from classmates.comparisons.numbers import BETTER, WORSE, digits, points
from classmates.comparisons.ranking import beside_published
from classmates.comparisons.statistics import warning_of_few
from classmates.comparisons.tables import HAS_NO
from classmates.tasks.protocol import ProtocolRecord


def remarks(table: pd.DataFrame) -> list[str]:
    """Return what has to be said beside a table that ``comparison_table`` has made, as sentences."""
    said = []
    if (table["seeds"] > 1).any():
        said.append("±: the standard deviation over seeds (n − 1 in the denominator).")
    protocols = [protocol for protocol in table["protocol"] if isinstance(protocol, ProtocolRecord)]
    counted = protocols[0].counted if protocols else "images"
    compared = int(table["p"].notna().sum())
    if compared:
        said.append(
            f"{BETTER} clearly better, {WORSE} clearly worse than {table['reference'].iloc[0]}: the 95 % interval of "
            "the difference (Student's t, paired by seed) excludes zero, also after Holm's correction for all "
            "comparisons. Rows with the same mark are not thereby told apart from one another."
        )
        said.append(
            "The intervals are about other seeds of training on these images, tested on these images; what other "
            "test images would show is a further question."
        )
    else:
        said.append("No row is marked as better or worse: an interval takes two seeds or more, and some spread.")
    if compared > 1:
        said.append(
            f"{compared} comparisons with the reference were made, and where there is no difference one interval in "
            f"twenty excludes zero by chance: {_count(table['better'], table['worse'])}; after the correction "
            f"{_count(table['marked'], table['marked_worse'])}."
        )
    fewest = table.loc[table["seeds"] > 0, "seeds"]
    alone = table.loc[table["seeds"] == 1, "row"].unique()
    if len(alone) and (fewest > 1).any():
        said.append(f"One seed has no spread: nothing can be said yet of {', '.join(alone)}.")
        fewest = fewest[fewest > 1]
    few = warning_of_few(int(fewest.min())) if len(fewest) else "Nothing has finished yet."
    if few is not None:
        said.append(few)
    if table["one_run"].notna().any():
        widest = table.iloc[int(table["one_run"].argmax())]
        said.append(
            f"The choice of test {counted} alone leaves a single run uncertain by up to ± "
            f"{widest['one_run']:.{digits(widest)}f}{points(widest)} (95 % interval); the rows share these "
            f"{counted}, so differences are surer than that."
        )
    said += list(dict.fromkeys(protocol.caution for protocol in protocols if protocol.caution))
    if beside_published(table):
        said.append(
            "Published values are as printed, of other hardware, software and seeds, and of other settings where the "
            "title or the notes say so; they enter no test here."
        )
    if table["peak_memory_mib"].notna().any():
        said.append(
            "Memory is the peak on the GPU, or without one that of the whole process, the interpreter and the images "
            "included: no measure of what a method needs."
        )
    for (data, model), part in table[table["precision"] != ""].groupby(["data", "model"], sort=False):
        if len({word for words in part["precision"] for word in words.split(", ")}) > 1:
            rows = part.groupby("precision")["row"].unique()
            of = "; ".join(f"{words}: {', '.join(names)}" for words, names in rows.items())
            said.append(
                f"{model}, {data}: not all runs were trained in one precision ({of}); --train.precision says which."
            )
    empty = table["seeds"] == 0
    without = empty & table["note"].str.startswith(HAS_NO)
    if without.any():
        said.append(f"{int(without.sum())} of {len(table)} lines have runs without the figure of this table.")
    if (empty & ~without).any():
        said.append(f"{int((empty & ~without).sum())} of {len(table)} lines have no finished run and stay empty.")
    return said


def _count(better: pd.Series, worse: pd.Series) -> str:
    return f"{int(better.sum())} better and {int(worse.sum())} worse"
