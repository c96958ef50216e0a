"""Completion scripts, sourced and asked by the shells themselves."""

import shutil
import subprocess

import pytest

from classmates.cli import COMMANDS
from classmates.cli.completion import completion

ASKED = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"
_shtab_classmates
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    def write(shell):
        file = tmp_path_factory.mktemp("completion") / shell
        file.write_text(completion(shell))
        return file

    return write


@pytest.fixture(scope="module")
def bash(script):
    """Gives what bash would complete the last word with."""
    file = script("bash")

    def complete(*words, where):
        command = ["bash", "-c", ASKED, "bash", str(file), "classmates", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=where, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("",), [*COMMANDS]),
        (("com",), ["compare", "completion"]),
        (("train", "--ep"), ["--epochs"]),
        (("train", "--augmentation.fl"), ["--augmentation.flip"]),
        (("train", "--method", "CO"), ["CORSD"]),
        (("train", "--epochs", "3", "--keep", "l"), ["last"]),
        (("train", "--resume", "t"), ["true"]),
        (("train", "--model", "mobile"), ["mobilenetv1_cifar"]),
        (("train", "--config", "set"), ["settings.yaml"]),
        (("train", "--data", "ph"), ["photos"]),
        (("improve", "--data", "ph"), ["photos"]),
        (("predict", "photos", "ph"), ["photos"]),
        (("compare", "--recipe", "set"), ["settings.yaml"]),
        (("compare", "--train.N"), []),
        (("list", "me"), ["methods"]),
        (("completion", "z"), ["zsh"]),
    ],
)
def test_bash_completes_commands_flags_and_values(words, found, bash, tmp_path):
    (tmp_path / "settings.yaml").touch()
    (tmp_path / "photos").mkdir()
    assert bash(*words, where=tmp_path) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_that_is_there_reads_its_script(shell, script):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    assert subprocess.run([shell, "-n", script(shell)], capture_output=True, check=True).stderr == b""


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_completes_flags(script):
    command = ["fish", "--no-config", "-c", f"source {script('fish')}; complete -C 'classmates train --ep'"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split("\t")[0] for line in found.splitlines()] == ["--epochs"]
