"""YAML as it is read here: like PyYAML's safe loader, but for what that takes in silence."""

import pytest
import yaml

from classmates._yaml import is_text, parse_yaml, read_yaml
from classmates.errors import UserError


@pytest.mark.parametrize(
    "text", ["", "a: {b: [1, 2.5, null, text]}", "a: &x {b: 1}\nc: *x", "a: &x {b: 1}\nc: {<<: *x}"]
)
def test_what_is_plain_is_read_as_ever(text):
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' is given twice"),
        ("x: {a: 1, a: 1}", "the key 'a' is given twice"),
        ("a: &a {b: *a}", "an alias stands within what it names"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: [1", "expected ',' or ']'"),
    ],
)
def test_what_cannot_be_used_is_said(text, reason, tmp_path):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match=r"--config own is no YAML file that can be used: .*") as error:
        read_yaml(tmp_path / "own.yaml", "--config own")
    assert reason in str(error.value)


@pytest.mark.parametrize("word", ["010", "0x10", "1_000", "1:30", "1:02:00:00", "2024-01-01", "2020-13-45"])
def test_what_only_yaml_1_1_takes_for_a_number_or_a_date_is_a_text(word):
    assert parse_yaml(f"a: {word}\n{word}: [{word}]") == {"a": word, word: [word]}
    assert is_text(word)


def test_what_is_no_text_is_what_it_says():
    words = {"on": "on", "no": "no", "true": True, "False": False, "0": 0, "-12": -12, "1.5e-3": 0.0015, "~": None}
    assert parse_yaml("\n".join(f"- {word}" for word in words)) == [*words.values()]
    assert not any(map(is_text, words))


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="x: No such file"):
        read_yaml(tmp_path / "none.yaml", "x")
