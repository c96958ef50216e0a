import io
import re
from contextlib import suppress
from types import SimpleNamespace

import pytest

from classmates import _progress
from classmates._progress import Status, bar, bars_of, note, say, saying


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(params=[60, 80, 120])
def terminal(request, monkeypatch):
    """Makes standard error a terminal of some width, and gives both."""

    def connect():
        monkeypatch.setattr("sys.stderr", Terminal())
        monkeypatch.setattr(_progress, "columns", lambda: request.param)
        return _progress.sys.stderr, request.param

    return connect


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(_progress, "DELAY", 0)


@pytest.mark.parametrize("shown", [True, False])
def test_a_bar_is_shown_on_a_terminal_to_those_who_want_one(terminal, shown):
    stream, _ = terminal()
    with say(progress=shown):
        assert list(bar(iter("abc"), "reading", "image", 3)) == ["a", "b", "c"]
    assert ("reading" in stream.getvalue()) == shown


def test_elsewhere_there_is_no_bar_and_a_status_is_whole_lines_now_and_then(capsys, monkeypatch):
    assert list(bar(iter("abc"), "reading", "image", 3)) == ["a", "b", "c"]
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(_progress.time, "monotonic", lambda: next(clock))
    with Status("epoch", 10, form="{desc}  {remaining} left |{bar}|") as status:
        for step in range(10):
            status.describe(f"epoch {step}")
            status.advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    lines = err.splitlines()
    assert 5 <= len(lines) <= 10
    assert all(re.fullmatch(r"epoch \d  [\d:?]+ left", line) for line in lines)


def test_a_status_never_says_anything_to_those_who_want_nothing(capsys, monkeypatch):
    monkeypatch.setattr(_progress, "EVERY", -1)
    with say(progress=False), Status("epoch", 2) as status:
        status.describe("epoch 1")
        status.advance()
    with Status("epoch", 2, shown=False) as status:
        status.describe("epoch 1")
    assert capsys.readouterr() == ("", "")


def test_notes_are_wrapped_at_words_on_a_terminal_and_one_line_elsewhere(terminal, monkeypatch, capsys):
    stream, columns = terminal()
    text = "the file '/some/where/with-dashes/and.more' " * 5
    note(text)
    lines = stream.getvalue().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) < columns
    assert " ".join(" ".join(lines).split()) == f"note: {text}".strip()
    monkeypatch.setattr("sys.stderr", io.StringIO())
    note(text)
    assert _progress.sys.stderr.getvalue() == f"note: {text}\n"


def test_notes_can_be_left_out_and_it_is_as_before_when_the_block_ends(capsys):
    with suppress(ValueError), say(notes=False):
        note("unheard")
        raise ValueError
    assert capsys.readouterr().err == ""
    assert saying() == _progress.Saying()
    note("heard")
    assert capsys.readouterr().err == "note: heard\n"


@pytest.mark.parametrize("disabled", [False, True])
@pytest.mark.parametrize(
    ("progress", "rewritable", "shown"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_library_shows_its_bars_where_ours_are_shown(monkeypatch, progress, rewritable, shown, disabled):
    calls = []
    library = SimpleNamespace(
        are_progress_bars_disabled=lambda: disabled,
        disable_progress_bars=lambda: calls.append("hide"),
        enable_progress_bars=lambda: calls.append("show"),
    )
    monkeypatch.setattr("classmates._progress.rewritable", lambda: rewritable)
    with say(progress=progress), suppress(OSError), bars_of(library):
        assert calls == ([] if shown or disabled else ["hide"])
        raise OSError
    assert calls == ([] if shown or disabled else ["hide", "show"])
