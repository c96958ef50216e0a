from pathlib import Path

import pytest
import torch
from torch import nn

from classmates.errors import UserError
from classmates.networks.building.build import build_model

NETWORKS = '''
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class Widths:
    """A dataclass with postponed annotations needs its module to be known by name."""
    first: int = 4

class Plain(nn.Module):
    def __init__(self, num_classes: int, width: int = 4):
        super().__init__()
        self.head = nn.Linear(width, num_classes)

class Weighted(Plain):
    def __init__(self, num_classes: int, pretrained: bool = False):
        super().__init__(num_classes)
        self.pretrained = pretrained

class Channels(nn.Module):
    def __init__(self, num_classes: int, in_chans: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(in_chans, Widths().first, 3)
        self.head = nn.Linear(4, num_classes)

def anything(num_classes, **options):
    return Channels(num_classes, **options)

class Fails(nn.Module):
    def __init__(self, num_classes):
        raise OSError("no such weights")

class NotANetwork:
    def __init__(self, num_classes): ...
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "networks.py"
    path.write_text(NETWORKS)
    return path


def test_timm_name() -> None:
    network = build_model("test_resnet", 7, in_chans=1, drop_rate=0.25)
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    assert network.drop_rate == 0.25
    assert build_model("resnet10t.c3_in1k", 3).num_classes == 3  # a timm name with the tag of its weights


def test_a_class_that_takes_it_is_told_that_weights_are_wanted(file) -> None:
    assert build_model(f"{file}:Weighted", 5, pretrained=True).pretrained
    assert not build_model(f"{file}:Weighted", 5).pretrained
    for name in ("Plain", "anything"):  # which do not, or take anything
        build_model(f"{file}:{name}", 5, pretrained=True)


def test_the_papers_networks_have_names_too() -> None:
    assert build_model("resnet20", 5, in_chans=1)(torch.randn(2, 1, 32, 32)).shape == (2, 5)


def test_unknown_timm_name_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown model 'resnt18': did you mean .*'resnet18'"):
        build_model("resnt18", 7)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("test_resnet", {"no_such_option": 1}, "could not be built: TypeError.*no_such_option"),
        ("resnet18.no_such_tag", {}, "unknown weights of a model 'resnet18.no_such_tag'.*'resnet18"),
    ],
)
def test_timm_refuses(name: str, args: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(name, 7, **args)


def test_class_in_a_file(file: Path) -> None:
    plain = build_model(f"{file}:Plain", 5, in_chans=1, width=6)  # its signature has no in_chans
    assert plain.head.weight.shape == (5, 6)
    for name in ("Channels", "anything"):
        network = build_model(f"{file}:{name}", 5, in_chans=2)
        assert network.stem.weight.shape == (4, 2, 3, 3)
        assert network.head.out_features == 5
        assert isinstance(network, nn.Module)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("{file}", {}, r"names a file but nothing in it: write '.*networks.py:NAME', a class or function's"),
        ("{file}.py:Plain", {}, r"there is no file '.*networks.py.py'"),
        ("{file}:Plan", {}, r"unknown class or function in .*networks.py 'Plan': did you mean 'Plain'"),
        ("{file}:Widths.first", {}, "unknown class"),
        ("{file}:Fails", {}, "could not be built: OSError: no such weights"),
        ("{file}:Plain", {"depth": 3}, "could not be built: TypeError.*depth"),
        ("{file}:NotANetwork", {}, "gave a NotANetwork; it must give a torch.nn.Module"),
    ],
)
def test_file_refuses(file: Path, name: str, args: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(name.format(file=file), 5, **args)


@pytest.mark.parametrize("text", ["import no_such_package", "def broken(:", "1 / 0"])
def test_file_that_does_not_run(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match=r"broken.py' could not be run: (ModuleNotFound|Syntax|ZeroDivision)Error"):
        build_model(f"{path}:Anything", 5)
