"""The page of a comparison: the files beside it."""

import matplotlib.pyplot as plt
import pandas as pd

from classmates.comparisons.drawings import Drawing
from classmates.comparisons.page import saved


def test_drawings_of_data_with_long_names_have_files_of_their_own(tmp_path):
    shown = []
    for data in ("photos-a", "photos-b"):
        name = f"sensitivity-mobilenetv3_small_100-{data}"
        tables = {name: pd.DataFrame({"data": [data]}), f"{name}-numbers": pd.DataFrame({"numbers": [data]})}
        shown.append(saved(Drawing(name, "title", "caption", plt.figure(), tables), tmp_path))
    files = {path.name for path in tmp_path.iterdir()}
    assert {path.rpartition(".")[2] for path in files} == {"csv", "svg", "png"}
    assert len(files) == 8
    for one, data in zip(shown, ("photos-a", "photos-b"), strict=True):
        rows, numbers = (pd.read_csv(tmp_path / f"{table}.csv") for table in one["tables"])
        assert (rows["data"].item(), numbers["numbers"].item()) == (data, data)
        assert f"{one['name']}.svg" in files
