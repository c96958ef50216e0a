"""Rows by what the command line calls them: methods, variants, files, longer ones and those on mixed images."""

import pytest

from classmates.errors import UserError
from classmates.experiments.plan import choose
from classmates.experiments.rows import row_of
from tests.experiments.test_plan import BASELINE, jobs, plan


def test_a_variant_is_a_row_of_its_own():
    first, second = plan("MCL", "MCL(peers=2, start='same')")
    assert second.row == "MCL(peers=2, start='same')"
    assert second.settings["method"]["init_args"]["peers"] == 2
    assert second.settings["method"]["init_args"]["start"] == "same"
    assert first.settings["method"]["init_args"]["peers"] == 4
    assert first.name != second.name


def test_a_row_can_be_trained_longer():
    plain, longer, variant = plan("Baseline", "Baseline (3 x as long)", "MCL(peers=2) (1.5 × as long)", epochs=20)
    assert (plain.epochs, longer.epochs, variant.epochs) == (20, 60, 30)
    assert longer.row == "Baseline (3 × as long)"
    assert variant.row == "MCL(peers=2) (1.5 × as long)"
    assert variant.settings["method"]["init_args"]["peers"] == 2
    assert (longer.settings["method"], longer.settings["lr"]) == (plain.settings["method"], plain.settings["lr"])


def test_factors_multiply():
    (job,) = plan("Baseline (2 x as long) (1.5 x as long)", epochs=20)
    assert (job.row, job.epochs) == ("Baseline (2 × as long) (1.5 × as long)", 60)


def test_longer_rows_follow_the_recipe_for_the_data():
    plain, longer = plan("Baseline", "Baseline (3 x as long)", recipe="auto", train_size=120)
    assert longer.epochs == 3 * plain.epochs
    assert longer.settings["warmup_epochs"] == pytest.approx(3 * plain.settings["warmup_epochs"])


def test_rows_on_mixed_images(tmp_path):
    (tmp_path / "mine.yaml").write_text("method: DML\naugmentation: {flip: true, mixup: 0.2}\n")
    rows = ["Baseline", "CutMix", "Mixup", "MCL(beta=0) + CutMix", f"{tmp_path}/mine.yaml + CutMix (2 x as long)"]
    plain, cutmix, mixup, mcl, mine = plan(*rows, epochs=20)
    shares = {
        job.row: (job.settings["augmentation"]["mixup"], job.settings["augmentation"]["cutmix"])
        for job in (plain, cutmix, mixup, mcl)
    }
    assert shares == {"Baseline": (0, 0), "CutMix": (0, 1), "Mixup": (0.4, 0), "MCL(beta=0) + CutMix": (0, 1)}
    assert cutmix.method == mixup.method == plain.method
    assert mine.row == "mine + CutMix (2 × as long)"
    assert (mcl.method.name, mine.method.name, mine.epochs) == ("MCL", "DML", 40)
    assert mine.settings["augmentation"]["flip"] is True
    assert (mine.settings["augmentation"]["mixup"], mine.settings["augmentation"]["cutmix"]) == (0.2, 1)


@pytest.mark.parametrize("cross", ["x", "×"])
def test_a_longer_row_of_a_recipe_is_the_recipes_own(cross):
    chosen = choose("evidence/superclasses-5000", ["Baseline", f"Baseline (3 {cross} as long)"], [], [], None, None)
    assert chosen.rows["Baseline (3 × as long)"] == {**BASELINE, "epochs": 300}


@pytest.mark.parametrize("times", [0, -1, "3", True, None, float("nan"), float("inf")])
def test_what_is_no_factor_is_told(times):
    with pytest.raises(UserError, match=r"row 'A': times_as_long is .*; give a factor of its epochs, such as 3"):
        jobs(rows={"A": {**BASELINE, "times_as_long": times}})


def test_a_file_of_settings_is_a_row(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("method: {class_path: MCL, init_args: {peers: 3}}\nlr: 0.2\nseed: 7\nout: elsewhere\n")
    (job,) = plan(str(file))
    assert (job.row, job.seed, job.settings["lr"]) == ("mine", 0, 0.2)
    assert job.settings["method"]["init_args"]["peers"] == 3
    assert "out" not in job.settings


def test_an_option_is_given_once():
    with pytest.raises(UserError, match=r"method 'MCL.beta=0.1, beta=0.2.': the option 'beta' comes twice"):
        row_of("MCL(beta=0.1, beta=0.2)")


@pytest.mark.parametrize("method", ["", "method:\n", "method: {init_args: {peers: 2}}\n"])
def test_a_file_that_names_no_method_is_no_row(method, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"{method}lr: 0.1\n")
    with pytest.raises(UserError, match=r"mine\.yaml names no method"):
        row_of(str(tmp_path / "mine.yaml"))


def test_the_label_of_a_row_is_what_was_typed():
    assert row_of("MCL(peers=2)")[0] == "MCL(peers=2)"
    with pytest.raises(UserError, match="No such file"):
        row_of("nothing.yaml")
