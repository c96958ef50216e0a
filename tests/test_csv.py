"""Tables that a spreadsheet shows and does not run."""

import io

import pandas as pd
import pytest

from classmates._csv import as_csv


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\n=1", " =1", "\uff1d1+1", "\uff201"]
)
def test_a_text_that_would_be_a_formula_gets_an_apostrophe(text):
    written = pd.read_csv(io.StringIO(as_csv(pd.DataFrame({text: [text, "cat"], "value": [-1.5, 2.0]}))))
    assert [*written.columns] == [f"'{text}", "value"]
    assert written[f"'{text}"].tolist() == [f"'{text}", "cat"]
    assert written["value"].tolist() == [-1.5, 2.0]


def test_numbers_and_what_is_missing_stay():
    frame = pd.DataFrame({"a": [-1, 2], "b": [None, -0.5], "c": [None, "x"]})
    assert as_csv(frame) == frame.to_csv(index=False)


@pytest.mark.parametrize("text", ["-1", "+1", "-2.5", "12"])
def test_a_class_that_is_called_a_number_stays(text):
    assert as_csv(pd.DataFrame({"class": [text]})) == f"class\n{text}\n"


@pytest.mark.parametrize("text", ["-1 ", "-1+1", "+", "-.5", "-1e3"])
def test_what_only_begins_like_a_number_does_not(text):
    assert as_csv(pd.DataFrame({"class": [text]})) == f"class\n'{text}\n"
