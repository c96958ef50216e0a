"""What few-shot learning teaches every network, its options, and the data that it refuses."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.errors import UserError
from classmates.losses.prototypes import episode_logits, prototypical_loss
from classmates.methods import CLILR
from classmates.tasks.few_shot import FewShot
from tests.fixtures.drawings import drawings

TASK = FewShot(way=3, shot=2, queries=4, episodes=5, eval_way=4, eval_queries=6)
GROUP = 3 * (2 + 4)


def outputs_of(networks, images, classes=7):
    random = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=random)

    return [NetworkOutput(drawn(images, classes), drawn(images, 5), ()) for _ in range(networks)]


def batch_of(images, classes=7):
    return Batch(torch.zeros(images, 1, 2, 2), torch.arange(images) % classes, torch.arange(images))


def test_its_terms_are_sums_over_networks():
    outputs, batch = outputs_of(3, 2 * GROUP), batch_of(2 * GROUP)
    terms = TASK.terms(outputs, batch)
    assert terms.keys() == TASK.weights.keys() == {"episode", "ce"}
    logits = [episode_logits(one.embedding.view(2, 3, 6, 5), 2) for one in outputs]
    torch.testing.assert_close(terms["episode"](), sum(map(prototypical_loss, logits)))
    torch.testing.assert_close(terms["ce"](), sum(F.cross_entropy(one.logits, batch.labels) for one in outputs))
    torch.testing.assert_close(TASK.logits(outputs, batch), torch.stack(logits).flatten(1, 2))


def test_a_batch_that_is_not_made_of_episodes_is_refused():
    with pytest.raises(UserError, match=f"a batch of 20 images is not made of episodes of 3 .*: {GROUP} each"):
        TASK.terms(outputs_of(1, 20), batch_of(20))["episode"]()


def test_the_classifier_is_trained_beside_methods_that_teach_logits_unless_said_otherwise():
    assert TASK.beside(classifier=False).weights["ce"] == 0
    assert TASK.beside(classifier=True).weights["ce"] == 1
    said = replace(TASK, classifier=0.5)
    assert said.beside(classifier=False) is said
    assert said.trains_classifier
    assert not TASK.beside(classifier=False).trains_classifier


def test_a_methods_weight_of_labels_is_of_the_classifier_alone(tiny_network):
    data = drawings(train=4)
    spec = DataSpec(4, data.train.labels, data.input_shape, task=replace(TASK, classifier=0.5))
    method = CLILR(tiny_network(in_chans=1), spec, peers=2, hard=0.25)
    assert {name: method.weights[name] for name in ("episode", "ce")} == {"episode": 1, "ce": 0.125}


def test_its_recipe_halves_the_rate_every_2000_episodes():
    assert TASK.recipe(drawings())["schedule_args"] == {"step_size": 400, "gamma": 0.5}
    assert FewShot().recipe(drawings())["schedule_args"] == {"step_size": 20, "gamma": 0.5}
    assert FewShot(way=30).recipe(drawings())["batch_size"] == 480
    assert FewShot(way=20, shot=5).recipe(drawings())["batch_size"] == 400


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"way": 1}, "way=1: few-shot learning needs 2 or more"),
        ({"shot": 0}, "shot=0: few-shot learning needs 1"),
        ({"queries": 0}, "queries=0"),
        ({"episodes": 0}, "episodes=0"),
        ({"eval_way": 1}, "eval_way=1"),
        ({"eval_queries": 0}, "eval_queries=0"),
        ({"eval_episodes": 1}, "eval_episodes=1: .* 2 or more"),
        ({"eval_seed": -1}, "eval_seed=-1"),
        ({"scale": 0.0}, "scale=0"),
        ({"classifier": -1.0}, "classifier=-1"),
        ({"distance": "manhattan"}, "distance"),
    ],
)
def test_options_that_cannot_work_are_named(options, said):
    with pytest.raises(UserError, match=said):
        FewShot(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"way": 13}, "the training images of 'drawings' have 12 classes, and an episode way=13"),
        ({"way": 5, "queries": 12}, "the training images of 'drawings' have too few of classes 'train0 \\(12\\)'"),
        (
            {"way": 5, "queries": 3, "eval_way": 5},
            "the validation images of 'drawings' have 4 classes, and an episode eval_way=5",
        ),
        (
            {"way": 5, "queries": 3, "eval_way": 4, "eval_queries": 12},
            "too few of classes 'val0 \\(12\\)'.* eval_queries=12",
        ),
    ],
)
def test_data_of_which_no_episode_can_be_made_are_refused(options, said):
    FewShot(way=12, shot=2, queries=10, eval_way=4, eval_queries=10).check_data(drawings())
    with pytest.raises(UserError, match=said):
        FewShot(**options).check_data(drawings())


@pytest.mark.parametrize(("part", "other"), [("train", "test"), ("train", "val"), ("val", "test")])
def test_a_class_in_two_parts_is_named(part, other):
    data = drawings()
    split = getattr(data, other)
    names = (getattr(data, part).class_names[1], *split.class_names[1:])
    said = {"train": "training", "val": "validation", "test": "test"}
    expected = f"the {said[part]} and the {said[other]} images of 'drawings' share class '{part}1'"
    with pytest.raises(UserError, match=expected):
        TASK.check_data(replace(data, **{other: replace(split, class_names=names)}))
