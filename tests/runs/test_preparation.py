import json

from classmates.runs.preparation import steps_of
from classmates.runs.student import StudentCard


def test_every_step_is_said_in_words_and_numbers():
    steps = steps_of((3, 128, 128), 146, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    text = " ".join(steps)
    for said in ("RGB, in this order", "shorter side to 146 pixels", "bicubic interpolation, antialiased"):
        assert said in text
    assert "middle 128 rows and 128 columns" in steps[3]
    assert "the mean 0.5 0.4 0.3 and divide by the deviation 0.2 0.25 0.3" in steps[5]
    assert "[batch, 3, 128, 128]" in steps[6]


def test_a_size_to_be_filled_is_not_mistaken_for_one_to_be_squeezed_into():
    steps = steps_of((1, 32, 64), (32, 64), "bicubic", (0.5,), (0.25,))
    assert "at least as many of both" in steps[2]
    assert "bilinear" in steps[2]  # images kept in memory are
    assert "not squeezed" in steps[2]
    assert "grey" in steps[0]
    assert "more than 16 times as long" in steps[1]


def test_the_card_says_them_and_is_read_again():
    card = StudentCard("resnet8", ("a", "b"), (1, 8, 8), (0.5,), (0.25,), (8, 8))
    assert json.loads(card.to_json())["preparation"] == card.preparation
    assert StudentCard.from_json(card.to_json()) == card
