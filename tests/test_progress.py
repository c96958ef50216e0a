import pytest

from classmates import _progress
from classmates._progress import bar, progress_bars


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(_progress, "DELAY", 0)


@pytest.mark.parametrize("shown", [True, False])
def test_a_bar_is_shown_only_to_those_who_want_one(capsys, shown):
    with progress_bars(shown):
        assert list(bar(iter("abc"), "reading", "image", 3)) == ["a", "b", "c"]
    assert ("reading" in capsys.readouterr().err) == shown


def test_it_is_as_before_when_the_block_ends(capsys):
    with pytest.raises(ValueError, match="stop"), progress_bars(False):
        raise ValueError("stop")
    list(bar(range(2), "reading", "image"))
    assert "reading" in capsys.readouterr().err
