"""The public face: what ``import classmates`` gives, and how fast."""

import inspect
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


def test_functions_stay_functions_after_the_modules_of_their_names_are_imported():
    import classmates.export
    import classmates.report.html

    assert inspect.isfunction(classmates.export)
    assert inspect.isfunction(classmates.report)
