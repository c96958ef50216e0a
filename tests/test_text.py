"""Prose keeps its words and its width; cells of a column begin or end in one place."""

import shlex

from hypothesis import given
from hypothesis import strategies as st

from classmates._text import aligned, command_lines, filled, plural

WORDS = st.lists(st.text("abc/.-", min_size=1, max_size=12), min_size=1, max_size=30)


@given(WORDS, st.integers(6, 40))
def test_prose_keeps_every_word_whole_and_its_width_where_words_allow(words, width):
    lines = filled(" ".join(words), width)
    assert " ".join(lines).split() == words
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines)
    assert [line.startswith("  ") for line in lines] == [False, *[True] * (len(lines) - 1)]


QUOTED = st.lists(st.text("ab -'/", max_size=12), min_size=1, max_size=12)


@given(QUOTED, st.integers(6, 40), st.sampled_from(["", "  "]))
def test_a_command_in_lines_is_the_same_to_a_shell(values, width, indent):
    words = ["classmates", "train", *(word for value in values for word in ("--some.flag", value))]
    lines = command_lines(indent + shlex.join(words), width)
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == words
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert all(line.startswith(f"{indent}  ") for line in lines[1:])


def test_a_command_is_as_wide_as_asked_and_a_value_stays_beside_its_flag():
    command = "classmates train --data './my photos' --on_bad_image skip --model resnet8 --resume"
    assert command_lines(command, 40) == [
        "classmates train --data './my photos' \\",
        "  --on_bad_image skip --model resnet8 \\",
        "  --resume",
    ]
    assert command_lines(command, 100) == [command]


def test_one_of_a_thing_is_singular():
    assert [plural(count, "image") for count in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert [plural(count, "class", "classes") for count in (1, 2)] == ["1 class", "2 classes"]


@given(st.lists(st.tuples(*[st.text("ab", min_size=1, max_size=5)] * 3), min_size=1), st.integers(0, 3))
def test_cells_of_a_column_begin_in_one_place_or_end_in_one(rows, left):
    lines = aligned(rows, left)
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    for row, line in zip(rows, lines, strict=True):
        start = 0
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            assert line[start : start + width].strip() == cell
            end = start + width
            assert line[start] != " " if place < left else line[end - 1] != " "
            start = end + 2


def test_no_line_ends_in_spaces():
    assert aligned([["method", "interval"], ["MCL", ""]]) == ["method  interval", "MCL"]


def test_a_value_that_there_is_no_room_for_beside_its_flag_has_a_line_of_its_own():
    path = "/a/path/" + "long" * 20
    assert command_lines(f"classmates compare --seeds 3 --recipe {path} --dry_run", 60) == [
        "classmates compare --seeds 3 \\",
        "  --recipe \\",
        f"  {path} \\",
        "  --dry_run",
    ]
