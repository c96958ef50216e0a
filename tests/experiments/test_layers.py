"""The settings of a row's runs: which go over which, and what no layer may say."""

import pytest

from classmates.errors import UserError
from tests.experiments.test_plan import TWO_PEERS, jobs, plan


def test_later_settings_go_over_earlier_ones():
    recipe = {
        "base": "common",
        "settings": {"lr": 1, "epochs": 2, "batch_size": 30},
        "rows": {"A": {**TWO_PEERS, "lr": 2, "epochs": 3}},
        "models_settings": {"resnet8": {"lr": 3, "rows": {"A": {"lr": 4, "method": {"init_args": {"beta": 0.5}}}}}},
    }
    (job,) = jobs(**recipe)
    assert [job.settings[name] for name in ("lr", "epochs", "batch_size")] == [4, 3, 30]
    options = job.settings["method"]["init_args"]
    assert (options["peers"], options["beta"]) == (2, 0.5)  # the method stays, with its other options
    (job,) = jobs({"lr": "5", "method.peers": "3"}, **recipe)
    assert (job.settings["lr"], job.settings["method"]["init_args"]["peers"]) == (5, 3)


def test_another_optimiser_drops_the_arguments_of_the_one_before():
    (job,) = jobs({"optimizer": "AdamW"}, settings={"optimizer": "SGD", "optimizer_args": {"momentum": 0.9}})
    assert job.settings["optimizer"] == "AdamW"
    assert not job.settings["optimizer_args"]


@pytest.mark.parametrize("method", ["CSKD", "classmates.CSKD", {"class_path": "CSKD"}, None], ids=str)
def test_settings_for_every_row_name_no_method(method):
    with pytest.raises(UserError, match=r"--train: method .* would take the place of every row's own.*--methods"):
        plan("Baseline", "MCL", method=method)
    with pytest.raises(UserError, match=r"the settings of model 'resnet8': method .* would take the place"):
        jobs(models_settings={"resnet8": {"method": method}})


def test_a_batch_that_depends_on_the_machine_is_told():
    with pytest.raises(UserError, match=r"row 'Baseline' with model 'resnet8': batch_size is 'auto'.*give a number"):
        plan("Baseline", "MCL", batch_size="auto")


def test_settings_for_every_row_may_have_options():
    for given in ({"method.beta": 1}, {"method": {"beta": 1}}, {"method": {"init_args": {"beta": 1}}}):
        made = plan("MCL", "MCL(peers=2)", **given)
        assert [job.settings["method"]["init_args"]["beta"] for job in made] == [1, 1]
        assert [job.settings["method"]["init_args"]["peers"] for job in made] == [4, 2]


def test_an_option_that_not_every_row_has_is_told_with_the_row_and_the_fix():
    with pytest.raises(UserError, match=r"--train\.method\.temperature: row 'Baseline' .*DML\(temperature=\.\.\.\)"):
        plan("Baseline", "DML", **{"method.temperature": 2})
    with pytest.raises(UserError, match=r"--train.method.beat: no row has such an option: did you mean 'beta'"):
        plan("Baseline", "MCL", **{"method.beat": 2})
    with pytest.raises(UserError, match=r"--train.method.beta: no row has such an option: their methods have none"):
        plan("Baseline", **{"method.beta": 2})


def test_an_option_may_have_the_name_that_earlier_versions_gave_it():
    (job,) = plan("MCL", **{"method.helpers": ["resnet8"] * 3, "method.share": "nothing"})
    assert job.settings["method"]["init_args"]["peer_models"] == ["resnet8"] * 3


def test_a_row_without_a_method_has_that_of_all_rows():
    rows = {"plain": {}, "two": {"method": {"init_args": {"peers": 2}}}}
    made = jobs(base="common", settings={"method": "MCL"}, rows=rows)
    assert [(job.method.name, job.settings["method"]["init_args"]["peers"]) for job in made] == [
        ("MCL", 4),
        ("MCL", 2),
    ]
