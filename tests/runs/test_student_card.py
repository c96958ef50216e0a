"""The card of a student as somebody else may have written it: what its values become, and what they do not."""

import json
from dataclasses import replace

import pytest

from classmates.errors import UserError
from classmates.runs.student import StudentCard, read_card, write_card

CARD = StudentCard("test_resnet", ("cat", "dog"), (1, 32, 32), (0.5,), (0.25,), (32, 32), {"in_chans": 1})
TEXTS = ["off", "null", "1e3", "007", "[1]", "{x: 1}", "2024-01-01", " a", ""]
VALUES = {
    **{text: text for text in TEXTS},
    "texts": TEXTS,
    "others": [False, None, 1000.0, 7, [1], {"x": 1}],
    "class": {"class_path": "named_in_a_card.Anything", "init_args": {"x": "off"}},
}


@pytest.mark.parametrize(
    ("name", "given"),
    [("model_args", VALUES), ("exports", {"onnx": VALUES}), ("exports", {"onnx": VALUES["class"], "class_path": {}})],
)
def test_values_of_any_type_stay_what_they_are_and_nothing_they_name_is_imported(tmp_path, monkeypatch, name, given):
    (tmp_path / "named_in_a_card.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').close()")
    monkeypatch.syspath_prepend(tmp_path)
    card = replace(CARD, **{name: given})
    assert StudentCard.from_json(card.to_json()) == card
    assert not (tmp_path / "ran").exists()


def test_texts_stay_texts():
    card = replace(CARD, class_names=tuple(TEXTS), model="007", code="1e3", classmates="1")
    assert StudentCard.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    "change",
    [{"model_args": [1]}, {"model_args": None}, {"model_args": "a"}, {"exports": []}, {"exports": {"onnx": "file"}}],
)
def test_what_must_have_names_and_values_is_checked(tmp_path, change):
    write_card(tmp_path, CARD)
    (tmp_path / "student.safetensors").touch()
    assert read_card(tmp_path) == CARD
    (tmp_path / "student.json").write_text(json.dumps(json.loads(CARD.to_json()) | change))
    with pytest.raises(UserError, match=r"student.json' is damaged"):
        read_card(tmp_path)
