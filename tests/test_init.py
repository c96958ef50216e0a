"""The public face: what ``import classmates`` gives, and how fast."""

import subprocess
import sys

import pytest

import classmates


def test_import_and_overview_take_no_time():
    code = "import sys, classmates.cli; classmates.cli.main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_every_public_name_is_there():
    assert all(getattr(classmates, name) is not None for name in classmates.__all__)
    assert set(classmates.__all__) <= set(dir(classmates))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        classmates.nothing  # noqa: B018


def test_every_method_is_public():
    from classmates import methods

    assert all(getattr(classmates, name) is getattr(methods, name) for name in methods.__all__)
    assert set(methods.__all__) <= set(dir(classmates))


def test_on_windows_one_sentence_says_where_it_runs() -> None:
    program = "import sys; sys.platform = 'win32'; import classmates"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ImportError: classmates runs on Linux and macOS, and on Windows in WSL 2" in told.stderr
