import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmates._text import command_lines
from classmates.cli.fitting import fitted

WIDE = """\
method        seeds  top-1 accuracy, %  − Baseline [95 %]     peers, %
Baseline      1      17.69              reference
MCL(peers=2)  1      16.81              −0.88 [−1.20, −0.31]  10.54"""
IN_PARTS = """\
method        seeds  top-1 accuracy, %
Baseline      1      17.69
MCL(peers=2)  1      16.81

method        − Baseline [95 %]
Baseline      reference
MCL(peers=2)  −0.88 [−1.20, −0.31]

method        peers, %
Baseline
MCL(peers=2)  10.54"""


def test_a_table_that_is_too_wide_comes_in_parts_each_with_its_first_column():
    assert fitted(WIDE, 40) == IN_PARTS
    assert fitted(WIDE, 71) == WIDE


def test_a_last_column_that_is_too_wide_goes_on_below_its_beginning():
    block = """\
used            at 96x96 pixels, colour
mean, std       0.390 0.411 0.377  +  0.201 0.204 0.199 (of the training images, in 0..1)"""
    assert fitted(block, 60).splitlines() == [
        "used            at 96x96 pixels, colour",
        "mean, std       0.390 0.411 0.377  +  0.201 0.204 0.199 (of",
        "                the training images, in 0..1)",
    ]


def test_prose_is_wrapped_at_words_and_paths_are_whole():
    text = "  The best settings are in /a/path/that-is/longer-than/the-terminal/is/wide, for later.\n\nEnd"
    assert fitted(text, 30).splitlines() == [
        "  The best settings are in",
        "    /a/path/that-is/longer-than/the-terminal/is/wide,",
        "    for later.",
        "",
        "End",
    ]


def test_a_command_can_still_be_copied():
    text = "  classmates compare --recipe swept/against_baseline.yaml --seeds 5"
    assert fitted(text, 40).replace("\\\n    ", "") == text
    assert "\\\n" in fitted(text, 40)
    lines = "begin with      what is here\n" + "\n".join(command_lines(text, 60))
    assert fitted(lines, 40).replace("\\\n    ", "").splitlines()[1] == text  # it was in lines already


@pytest.mark.parametrize("columns", [20, 79, 80, 200])
@given(st.lists(st.lists(st.text("abc0.", min_size=1, max_size=12), min_size=4, max_size=4), min_size=2, max_size=5))
def test_nothing_is_lost_and_no_line_is_too_long(columns, rows):
    text = "\n".join("   ".join(f"{cell:<12}" for cell in row).rstrip() for row in rows)
    shown = fitted(text, columns)
    assert {*shown.split()} == {*text.split()}
    assert max(map(len, shown.splitlines())) <= max(columns, 27)
