"""The verdict's words, whatever the runs were."""

from dataclasses import replace
from pathlib import Path

import pytest

from classmates.comparisons.improvement import Improvement, Look, Tried
from classmates.comparisons.statistics import ImageDifference
from classmates.tasks.protocol import MetricFormat

VERDICT = Improvement(
    folder=Path("improved"),
    metric=MetricFormat("top-1", "top-1 accuracy", percent=True),
    counted="images",
    images=400,
    test_hash="these",
    judged="mine",
    seeds=(0, 1, 2),
    tried=(Tried("Baseline", (0.5,) * 3, 1.0, 3, 3, "done"), Tried("MCL", (0.5, 0.6, 0.7), 2.61, 3, 3, "done")),
    chosen="MCL",
    chosen_by=1200,
    on_test={"Baseline": (0.5, 0.4, 0.6), "MCL": (0.5, 0.55, 0.6)},
    difference=ImageDifference(0.05, 0.01, 0.09),
)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((4,), ["the interval is over images alone: with one seed, how far others would differ is not known"]),
        ((0, 4), ["the interval is too narrow: 2 seeds say little of others; --seeds 3 says more"]),
        ((0, 1, 2), []),
    ],
)
def test_few_seeds_limit_the_verdict(seeds, said):
    headline, *limits, deployed, after = replace(VERDICT, seeds=seeds).lines
    count = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    assert headline == (
        f"your network: 50.0 % -> 55.0 %, +5.0 points [+1.0, +9.0] on 400 test images, {count}, with MCL"
    )
    assert limits == said
    assert deployed == "deploy: improved/student/student.safetensors"
    assert after == "next: classmates predict improved/student IMAGES ..."
    assert replace(VERDICT, own_code=True).next == "classmates predict improved/student IMAGES --trust_code true ..."


def test_with_one_seed_an_interval_over_groups_is_over_them_alone():
    one = replace(VERDICT, seeds=(0,), groups=40)
    assert one.lines[1].startswith("the interval is over groups alone")
    assert "on 400 test images of 40 groups, 1 seed" in one.headline


def test_without_a_difference_nothing_is_said_of_its_interval():
    plain = replace(VERDICT, seeds=(0,), chosen="Baseline", difference=None)
    assert (plain.helps, plain.deployed, len(plain.lines)) == (False, "Baseline", 3)
    assert plain.plain()["difference"] is None


@pytest.mark.parametrize(("low", "helps"), [(1e-9, True), (0.0, False), (-0.01, False), (float("nan"), False)])
def test_only_an_interval_above_zero_helps(low, helps):
    found = replace(VERDICT, difference=ImageDifference(0.05, low, 0.09))
    assert found.helps is helps
    assert found.deployed == ("MCL" if helps else "Baseline")
    assert found.headline.startswith("your network: " if helps else "nothing helped beyond chance: ")


def test_every_look_at_the_test_images_is_told():
    first, second, others = Look("these", "first", "a"), Look("these", "second", "b"), Look("others", "third", "c")
    same = Look("these", "in other words", VERDICT.judged)  # the same command again
    once = replace(VERDICT, looks=(first, others, same))
    assert "were looked at once before" in once.lines[1]
    assert once.earlier == ["first"]
    assert "were looked at 2 times before" in replace(VERDICT, looks=(others, first, second, first)).lines[1]
    alike = Look("these", VERDICT.headline, "of other settings, with the same numbers")
    assert replace(VERDICT, looks=(alike,)).earlier == [VERDICT.headline]
    earlier = Look("these", VERDICT.headline)  # of a version that did not note which runs looked
    for unseen in ((), (others,), (same,), (earlier,)):
        assert not any("before" in line for line in replace(VERDICT, looks=unseen).lines)


def test_other_test_images_than_those_of_the_last_verdict_are_told():
    mine, others = VERDICT.look, Look("others", "third", "c")
    for looks, told in (((), False), ((others, mine), False), ((mine, others), True), ((others,), True)):
        said = [line for line in replace(VERDICT, looks=looks).lines if "are not those of the last verdict" in line]
        assert bool(said) is told


@pytest.mark.parametrize(("difference", "who", "score"), [(0.01, "MCL", "55.0"), (-0.01, "Baseline", "50.0")])
def test_a_student_that_has_learnt_nothing_is_not_to_be_deployed(difference, who, score):
    found = replace(VERDICT, useless=True, difference=ImageDifference(0.05, difference, 0.09))
    headline, fix, place, *more = found.lines
    assert headline == (
        f"nothing to deploy: on validation images the student of {who} is no better than always giving the commonest "
        f"answer; it has {score} % on 400 test images, 3 seeds"
    )
    assert fix.startswith("try a lower --train.lr, more --train.epochs or published weights")
    assert place == "not worth deploying: improved/student/student.safetensors"
    assert more == []
    assert found.plain()["useless"]


def test_the_looks_are_kept_with_those_of_other_images():
    others, same = Look("others", "third", "c"), VERDICT.look
    for looks in ((others,), (others, same)):
        kept = replace(VERDICT, looks=looks).plain()
        assert kept["looks"] == [others._asdict(), same._asdict()]
        assert kept["earlier"] == []


def test_the_table_fits_in_a_terminal():
    long = replace(VERDICT, tried=(*VERDICT.tried, Tried("A method " * 9, (), None, 0, 3, "failed")))
    lines = long.table.splitlines()
    assert "top-1 accuracy on 1,200 images, mean over" in " ".join(lines)
    assert max(map(len, lines)) <= 80
    assert lines[2].split()[:4] == ["MCL", "60.0", "%", "2.6x"]
    assert "0/3" in lines[3]
    assert "failed" in lines[3]


def test_a_folder_with_a_space_is_quoted():
    assert replace(VERDICT, folder=Path("my photos")).next == "classmates predict 'my photos/student' IMAGES ..."
