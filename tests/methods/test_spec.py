"""How methods are named, and that what is written down gives the same method again."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import yaml
from torch import nn

from classmates.configuration.arguments import arguments_of
from classmates.configuration.settings import Settings
from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.methods import DML, KD, MCL, ONE, SD, Baseline, Combined, Method
from classmates.methods.spec import MethodSpec, known_methods
from classmates.methods.teacher_method import TeacherSources
from classmates.runs.spec import takes_any_option
from classmates.training.train import train

Make = Callable[..., nn.Module]

COMBINED = {"methods": ["SD", {"class_path": "MCL", "init_args": {"peers": 2, "num_negatives": 4}}]}


class Own(Baseline):
    """A method of the user's own."""

    def __init__(self, network: nn.Module, data: DataSpec, *, size: int = 3):
        super().__init__(network, data)
        self.size = size


class HandsOn(Own):
    """Hands options on without names."""

    def __init__(self, network: nn.Module, data: DataSpec, *, colour: str = "red", **options: Any):
        super().__init__(network, data, **options)


def test_every_method_is_what_its_own_description_says(kind: type[Method]) -> None:
    spec = MethodSpec.of(kind)
    written = yaml.safe_load(yaml.safe_dump(spec.plain()))
    assert MethodSpec.of(written) == spec
    assert MethodSpec.of(written).plain() == spec.plain() == written
    assert MethodSpec.of(kind.__name__) == MethodSpec.of(f"classmates.{kind.__name__}") == spec
    assert str(spec) == spec.name == kind.__name__
    assert set(spec.resolved()) == set(MethodSpec.parameters_of(kind))


@pytest.mark.parametrize(
    "parts",
    [
        COMBINED["methods"],
        ("SD", MCL),
        (SD, partial(MCL, peers=2, num_negatives=4)),
        [MethodSpec("SD", {"lam": 0.5}), MethodSpec("MCL", {"peers": 2, "num_negatives": 4})],
    ],
)
@pytest.mark.filterwarnings("ignore:num_negatives")
def test_a_combination_can_be_repeated_however_its_parts_are_given(
    parts: Any, tiny_network: Make, tiny_data: DataSpec
) -> None:
    spec = MethodSpec.of(partial(Combined, methods=parts))
    written = yaml.safe_load(yaml.safe_dump(spec.plain()))
    again = MethodSpec.of(written)
    assert again.plain() == written
    first, second = (one(tiny_network(), tiny_data) for one in (spec, again))
    assert first.weights == second.weights
    assert len(first.networks) == len(second.networks)


def test_options_at_their_defaults_are_left_out_and_all_are_written() -> None:
    spec = MethodSpec.of(partial(MCL, peers=2, beta=0.025))
    assert spec == MethodSpec("classmates.MCL", {"peers": 2})
    assert str(spec) == "MCL(peers=2)"
    assert spec.plain()["init_args"]["beta"] == 0.025
    assert MethodSpec.of(partial(partial(MCL, peers=2), peers=3)).options == {"peers": 3}
    assert MethodSpec.of(lambda network, data: Baseline(network, data)) is None
    module = nn.Linear(1, 1)
    assert MethodSpec("KD", {"teacher": module}).options["teacher"] is module
    assert MethodSpec("KD", {"teacher": module}).plain()["init_args"]["teacher"] == "<Linear>"


@pytest.mark.parametrize(
    ("owner", "old", "new"),
    [(DML, "helpers", "peer_models"), (MCL, "helpers", "peer_models"), (KD, "remember", "cache")],
    ids=["DML", "MCL", "KD"],
)
def test_names_of_earlier_versions_are_understood(owner: type[Method], old: str, new: str) -> None:
    present = MethodSpec.of(partial(owner, **{new: True}))
    assert present.options == {new: True}
    assert MethodSpec.of(partial(owner, **{old: True})) == present
    assert MethodSpec.of({"class_path": owner.__name__, "init_args": {old: True}}) == present


def test_options_that_are_handed_on_are_known() -> None:
    assert MethodSpec.options_of(KD)["teacher"] is None
    assert MethodSpec.parameters_of(KD)["cache"].annotation is bool
    assert MethodSpec.parameters_of(KD)["teacher"].annotation == TeacherSources
    assert "cache" not in MethodSpec.options_of(known_methods()["SP"])
    assert MethodSpec.options_of(HandsOn) == {"size": 3, "colour": "red"}
    assert takes_any_option(HandsOn)
    assert not takes_any_option(KD)


def test_a_method_of_ones_own(tiny_network: Make, tiny_data: DataSpec) -> None:
    spec = MethodSpec.of(partial(Own, size=5))
    assert spec.plain() == {"class_path": f"{__name__}.Own", "init_args": {"size": 5}}
    assert spec(tiny_network(), tiny_data).size == 5
    assert MethodSpec.of(HandsOn)(tiny_network(), tiny_data).size == 3


def test_wrong_names_are_told(tiny_network: Make, tiny_data: DataSpec) -> None:
    with pytest.raises(UserError, match="unknown option of MCL 'peeers': did you mean 'peers'"):
        MethodSpec("MCL", {"peeers": 2})(tiny_network(), tiny_data)
    for name, message in {
        "MLC": "unknown method 'MLC'.*'MCL'",
        "Output": "unknown method 'Output'",
        "nowhere.MCL": "cannot be imported",
        "torch.nn.Linear": "is no method",
    }.items():
        with pytest.raises(UserError, match=message):
            MethodSpec(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BYOT", "SD"),
        ("ban", "BornAgain"),
        ("LSR", "LabelSmoothing"),
        ("MCL-OKD", "MCL"),
        ("MCLOKD", "MCL"),
        ("PS-KD", "PSKD"),
    ],
)
def test_what_papers_call_a_method_is_told_by_its_name_here(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"^unknown method '{name}': did you mean '{meant}'"):
        MethodSpec(name)
    assert meant in known_methods()


@pytest.mark.parametrize(("name", "flag"), [("CutMix", "cutmix"), ("mixup", "mixup")])
def test_an_augmentation_is_told_as_one(name: str, flag: str) -> None:
    with pytest.raises(
        UserError, match=f"method '{name}' is an .* --augmentation.{flag} 1.*--methods Baseline,{name}"
    ):
        MethodSpec(name)


@pytest.mark.parametrize(
    ("written", "flags"),
    [
        ("MCL(peers=2)", "--method MCL --method.peers 2"),
        ("MCL(peers=2, share=-1)", "--method MCL --method.peers 2 --method.share -1"),
        ("Combined(methods=[SD,KD])", r"--method Combined --method.methods \[SD,KD\]"),
        ("MCL()", "--method MCL"),
    ],
)
def test_options_behind_a_name_are_told_as_flags(written: str, flags: str) -> None:
    with pytest.raises(UserError, match=f"say {flags}$"):
        MethodSpec.of(written).resolved()


def test_lengths_scale() -> None:
    assert MethodSpec.of(ONE).scaled(0.5) == MethodSpec("ONE", {"ramp": 40})
    assert MethodSpec("ONE", {"ramp": 0}).scaled(0.5).options == {"ramp": 0}
    assert MethodSpec("ONE", {"peers": 4}).scaled(1.0) == MethodSpec("ONE", {"peers": 4})


def test_there_are_methods() -> None:
    assert known_methods().keys() >= {"Baseline", "MCL", "CORSD"}


def test_options_that_somebody_chose_are_known_also_at_their_defaults() -> None:
    assert MethodSpec("MCL", {"peers": 4}).chosen == {"peers"}
    assert MethodSpec("MCL", {"peers": 4}) == MethodSpec("MCL")
    assert MethodSpec.of(partial(MCL, share=-2)).chosen == {"share"}
    typed = Settings("train", arguments_of(train))
    typed.add({"method": {"class_path": "MCL", "init_args": {"peers": 4}}}, str)
    assert typed.typed()["method"].chosen == {"peers"}


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("peers", "3", "give a whole number"),
        ("peers", 2.5, "give a whole number"),
        ("beta", "1", "give a number"),
        ("beta", None, "give a number"),
        ("share", [1], "give a whole number or a text"),
    ],
)
def test_a_value_of_another_type_is_named(option, value, wanted, tiny_network: Make, tiny_data: DataSpec) -> None:
    with pytest.raises(UserError) as told:
        MethodSpec("MCL", {option: value})(tiny_network(), tiny_data)
    assert str(told.value) == f"MCL: {option}={value!r}: {wanted}"


def test_numbers_of_other_libraries_pass(tiny_network: Make, tiny_data: DataSpec) -> None:
    made = MethodSpec("MCL", {"peers": np.int64(2), "beta": np.float64(1.5), "num_negatives": 4, "temperature": 2})
    assert made(tiny_network(), tiny_data).weight("contrast") == 1.5
