"""The average of peers' weights: validated, deployed, the same when resumed, and refused where it means nothing."""

import copy
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from classmates.errors import UserError
from classmates.methods import CLILR, DML, MCL, ONE, PCL, OKDDip
from classmates.runs.student import load_student
from classmates.training.module import TrainingModule

ALIKE = {"start": "identical", "views": "own"}
SMALL_MCL = partial(MCL, peers=3, num_negatives=16, dimension=8)


class Peers(Callback):
    """Keeps the state of every network as validation found it and as it was after the last step."""

    def states(self, module):
        return [
            {name: value.clone() for name, value in network.state_dict().items()}
            for network in module.method.networks.networks
        ]

    def on_train_start(self, trainer, module):
        self.begun = self.states(module)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.trained = self.states(module)

    def on_validation_epoch_end(self, trainer, module):
        self.validated = self.states(module)


def mean_of(states):
    """The mean by hand, over the states that have a name."""
    return {
        name: sum(state[name] for state in states if name in state) / sum(name in state for state in states)
        for name, value in states[-1].items()
        if value.is_floating_point()
    }


@pytest.mark.parametrize("keep", ["best", "last"])
def test_stages_that_are_frozen_in_the_epoch_that_is_kept_keep_their_statistics(
    small_train, tmp_path, keep, monkeypatch
):
    def first_is_best(module):
        module.validation = {who: score.compute() for who, score in module.scores.items()}
        module.log(module.protocol.monitored, -float(module.current_epoch), rank_zero_only=True)

    monkeypatch.setattr(TrainingModule, "on_validation_epoch_end", first_is_best)
    frozen = {"freeze_stages": 1, "freeze_epochs": 1 if keep == "best" else 2, "epochs": 2}
    method = partial(DML, **ALIKE)
    result = small_train(method=method, out=tmp_path / "run", keep=keep, **frozen)
    assert result.record.validation.best.epoch == 1
    norms = [one for one in result.student.modules() if isinstance(one, nn.BatchNorm2d)]
    assert not norms[0].running_mean.any()  # the stem's, as it began
    assert norms[-1].running_mean.any()


@pytest.mark.parametrize("method", [partial(DML, **ALIKE), partial(SMALL_MCL, **ALIKE, distil_to="all")])
def test_it_is_validated_and_deployed_with_statistics_of_its_own(small_train, tmp_path, method):
    peers = Peers()
    result = small_train(method=method, out=tmp_path / "run", epochs=2, callbacks=[peers])
    expected = mean_of(peers.trained)
    student = load_student(tmp_path / "run")[0]
    learnt = dict(student.named_parameters())
    assert learnt.keys() < expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(peers.validated[-1][name], value, msg=name)
        if name in learnt:
            torch.testing.assert_close(learnt[name], value, msg=name)
    assert not all(torch.equal(peers.trained[0][name], peers.trained[-1][name]) for name in peers.trained[0])
    name, first = next((name, one) for name, one in student.named_modules() if isinstance(one, nn.BatchNorm2d))
    assert not torch.allclose(first.running_mean, expected[f"{name}.running_mean"])
    assert first.num_batches_tracked == 4  # the batches of an epoch
    assert "ensemble" in result.record.test


@pytest.mark.parametrize("epochs", [None, 2])
def test_statistics_of_stages_that_are_frozen_at_the_end_stay(small_train, tmp_path, epochs):
    peers = Peers()
    method = partial(SMALL_MCL, peers=2, **ALIKE)
    settings = {"freeze_stages": 1, "freeze_epochs": epochs, "epochs": 2 if epochs is None else 3}
    result = small_train(method=method, out=tmp_path / "run", callbacks=[peers], **settings)
    begun, final = peers.begun[-1], result.student.state_dict()
    assert not torch.equal(final["layer2.0.bn1.running_mean"], peers.trained[-1]["layer2.0.bn1.running_mean"])
    frozen = [name for name in begun if name.startswith(("stem", "layer1"))]
    assert any("running_var" in name for name in frozen)
    assert all(torch.equal(begun[name], final[name]) for name in frozen) == (epochs is None)


@pytest.mark.parametrize("method", [partial(DML, **ALIKE), partial(SMALL_MCL, **ALIKE, distil_to="all")])
def test_the_ensemble_is_that_of_the_peers_as_they_were_trained(small_train, tmp_path, method):
    """The average, which is in the student's place, is judged beside them and is none of them."""
    peers = Peers()
    result = small_train(method=method, out=tmp_path / "run", epochs=2, callbacks=[peers], val_fraction=0.2)
    networks, count = result.method.networks, len(peers.trained)
    names = {*(f"peer{number}" for number in range(1, count + 1)), "student", "ensemble"}
    assert result.record.test.keys() == result.record.validation.best.scores.keys() == names
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {f"val/{who}/top1" for who in names} <= {*header}
    student, images = copy.deepcopy(result.student), torch.randn(50, 1, 8, 8)
    with torch.no_grad():
        found = result.method.eval().predictions(networks.judged(images))
        torch.testing.assert_close(found["student"], student(images))
        assert not torch.allclose(found["student"], found[f"peer{count}"])
        for network, state in zip(networks.networks, peers.trained, strict=True):
            network.load_state_dict(state)
        alone = networks(images)
    for number, output in enumerate(alone, start=1):
        torch.testing.assert_close(found[f"peer{number}"], output.logits)
    torch.testing.assert_close(found["ensemble"], torch.stack([output.logits for output in alone]).mean(0))


def test_the_best_epoch_is_deployed_with_statistics_of_its_own_too(small_train, tmp_path):
    """Of one epoch, which is both the best and the last, both choices deploy and score the same network."""
    found = [
        small_train(method=partial(DML, **ALIKE), out=tmp_path / keep, epochs=1, val_fraction=0.2, keep=keep)
        for keep in ("last", "best")
    ]
    files = [load_student(tmp_path / keep)[0].state_dict() for keep in ("last", "best")]
    for other in (files[1], *(result.student.state_dict() for result in found)):
        assert all(torch.equal(value, other[name]) for name, value in files[0].items())
    assert {value.item() for name, value in files[0].items() if "num_batches" in name} == {4}  # of one epoch
    assert found[0].record.test == found[1].record.test
    for result in found:
        assert result.record.validation.best.scores == result.record.validation.last.scores
        assert not result.record.test_last  # it is the last
        assert str(result).count("test, epoch 1") == (result is found[1])


def test_a_resumed_run_has_the_same_average(small_train, tmp_path):
    class Broken(Exception):
        pass

    class Break(Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                raise Broken

    settings = {"method": partial(SMALL_MCL, **ALIKE), "epochs": 2}
    whole = small_train(out=tmp_path / "whole", **settings).student.state_dict()
    with pytest.raises(Broken):
        small_train(out=tmp_path / "parts", callbacks=[Break()], **settings)
    resumed = small_train(out=tmp_path / "parts", resume=True, **settings).student.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (partial(DML, deploy="average"), {}, "deploy='average': only weights that began alike"),
        (partial(SMALL_MCL, deploy="average", start="same"), {}, "start identical"),
        (partial(DML, start="identical"), {}, "stay copies of one another"),
        (partial(SMALL_MCL, start="identical", beta=0.0), {}, "stay copies of one another"),
        *((partial(one, start="identical"), {}, "unknown start 'identical'") for one in (CLILR, ONE, OKDDip, PCL)),
        (partial(DML, **ALIKE), {"ema": 0.9}, "ema=0.9: this run averages its peers' weights already"),
        (partial(DML, deploy="mean"), {}, "deploy 'mean'"),
    ],
)
def test_what_cannot_be_averaged_is_refused(small_train, tmp_path, method, settings, message):
    with pytest.raises(UserError, match=message):
        small_train(method=method, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run" / "result.json").exists()


def test_peers_that_begin_alike_differ_only_by_what_tells_them_apart(tiny_network, tiny_data):
    method = MCL(tiny_network(), tiny_data, peers=3, num_negatives=8, dimension=4, start="identical")
    first, *others = [network.state_dict() for network in method.networks.networks]
    assert all(torch.equal(value, other[name]) for other in others for name, value in first.items() if name in other)
    method.check_peers_differ()  # each has a projection of its own
    assert method.deploys_average
    kept = MCL(tiny_network(), tiny_data, peers=2, num_negatives=8, start="identical", deploy="student")
    assert not kept.deploys_average
