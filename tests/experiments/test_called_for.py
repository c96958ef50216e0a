"""Without models, a comparison takes the network that its data call for."""

import numpy as np
import pytest
from PIL import Image

from classmates.errors import UserError
from classmates.experiments.called_for import with_model
from classmates.experiments.compare import compare
from classmates.experiments.improve import improve
from classmates.experiments.plan import choose


@pytest.fixture
def photos(tmp_path):
    """Two classes of ten grey images of noise, 80 pixels a side."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (80, 80), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return str(tmp_path / "photos")


def wanted(recipe="auto", models=(), data=("digits",)):
    return choose(recipe, ["Baseline"], models, data, 1, None)


def test_photos_get_the_network_for_photos_and_small_images_theirs(photos, capsys):
    weightless = {"pretrained": False}
    assert with_model(wanted(data=[photos]), weightless).models == ("tf_efficientnet_lite0",)
    assert "model tf_efficientnet_lite0, as train chooses" in capsys.readouterr().err
    assert with_model(wanted(), {}).models == ("resnet8",)


def test_a_model_that_is_named_stays(photos):
    assert with_model(wanted(models=["resnet14"]), {}).models == ("resnet14",)
    assert wanted("none").models == ("resnet8",)


def test_data_that_call_for_different_networks_are_refused(photos):
    with pytest.raises(UserError, match=r"digits: resnet8.*tf_efficientnet_lite0.*--models"):
        with_model(wanted(data=["digits", photos]), {"pretrained": False})


def test_compare_uses_it():
    plan = compare(["Baseline"], data=["digits"], seeds=1, dry_run=True)
    assert {job.model for job in plan.jobs} == {"resnet8"}


def test_improve_keeps_the_model_that_is_named():
    plan = improve("digits", "resnet14", seeds=1, dry_run=True)
    assert {job.model for job in plan.jobs} == {"resnet14"}
