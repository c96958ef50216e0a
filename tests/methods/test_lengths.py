"""Options that are numbers of epochs."""

from classmates.methods.lengths import scaled, scaled_lengths


def test_lengths_are_scaled_and_other_options_are_not() -> None:
    options = {"ramp": 80, "milestones": [100, 200], "weight": 0.5, "name": "a"}
    assert scaled_lengths(options, ("ramp", "milestones"), 0.1) == {**options, "ramp": 8, "milestones": [10, 20]}


def test_a_length_stays_whole_and_is_0_only_where_it_was() -> None:
    assert [scaled(length, 0.01) for length in (0, 30, [100, 200], None)] == [0, 1, [1, 2], None]
