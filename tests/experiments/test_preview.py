"""What a plan says of the time that is left."""

import pytest


@pytest.mark.parametrize(
    ("methods", "models", "said"),
    [
        (["Baseline"], ["resnet8", "resnet14"], "one after the other, and 2 runs of which nothing is known yet."),
        (["Baseline", "DML"], ["resnet8"], "one after the other, where unknown by the cost of their methods."),
        (
            ["Baseline", "DML"],
            ["resnet8", "resnet14"],
            "where unknown by the cost of their methods, and 4 runs of which nothing is known yet.",
        ),
        (["Baseline"], ["resnet14"], "in FOLDER; what they take is known once one of them has trained an epoch."),
    ],
)
def test_the_time_left_is_told_as_far_as_it_is_known(small, methods, models, said):
    small(models=["resnet8"])
    plan = small(*methods, models=models, seeds=2, dry_run=True)
    assert " ".join(str(plan).split()).endswith(said.replace("FOLDER", str(plan.folder)))
