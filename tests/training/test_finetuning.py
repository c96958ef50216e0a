"""What people fine-tune with: it does what it says, in whole runs."""

import copy
from functools import partial

import pytest
import timm
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from classmates.errors import UserError
from classmates.methods import KD, MCL, ONE, PCL, SD, Baseline, BornAgain, Combined, FitNet
from classmates.networks.building.build import build_model
from classmates.training.checkpoints import load_checkpoint
from classmates.training.finetuning import FrozenStages, WeightAverage, averaged, measure_statistics, new_parts
from classmates.training.optimisation import faster_groups, layer_groups


class Rates(Callback):
    """Notes the learning rates of every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


class Watched(Callback):
    """Keeps the method's weights after every step, and those that are validated."""

    def __init__(self):
        self.steps, self.validated = [], []

    def weights(self, module):
        state = module.method.state_dict()
        return {name: value.clone() for name, value in state.items() if isinstance(value, torch.Tensor)}

    def on_train_start(self, trainer, module):
        self.steps.append(self.weights(module))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.steps.append(self.weights(module))

    def on_validation_epoch_end(self, trainer, module):
        self.validated.append(self.weights(module))


@pytest.mark.parametrize("schedule", ["CosineAnnealingLR", "ConstantLR", "ExponentialLR"])
def test_a_warm_up_goes_with_any_schedule(small_train, tmp_path, schedule):
    arguments = {"ConstantLR": {"factor": 1.0}, "ExponentialLR": {"gamma": 0.5}}.get(schedule)
    plain, warm = Rates(), Rates()
    shared = {"schedule": schedule, "schedule_args": arguments, "lr": 0.01, "epochs": 3}
    small_train(out=tmp_path / "plain", callbacks=[plain], warmup_epochs=0, **shared)
    small_train(out=tmp_path / "warm", callbacks=[warm], warmup_epochs=1.5, **shared)
    factors = [one[0] / other[0] for one, other in zip(warm.seen, plain.seen, strict=True)]
    steps = len(factors) // 3
    expected = [min(1.0, (step + 1) / (1.5 * steps + 1)) for step in range(3 * steps)]
    assert factors == pytest.approx(expected, rel=1e-6)


def test_a_warm_up_of_an_epoch_goes_with_restarts(small_train, tmp_path):
    rates = Rates()
    restarts = {"schedule": "CosineAnnealingWarmRestarts", "schedule_args": {"T_0": 3}}
    small_train(out=tmp_path / "run", callbacks=[rates], warmup_epochs=1, lr=0.01, epochs=3, **restarts)
    assert [one[0] for one in rates.seen] == pytest.approx(
        [0.002, 0.004, 0.006, 0.008, *[0.0075] * 4, *[0.0025] * 4], rel=1e-6
    )


def test_layers_learn_at_decaying_rates_and_new_parts_at_the_whole(small_train, small_mcl, tmp_path):
    rates = Rates()
    settings = {"optimizer": "AdamW", "lr": 0.01, "epochs": 1, "callbacks": [rates]}
    result = small_train(method=small_mcl, out=tmp_path / "run", layer_decay=0.5, **settings)
    first = rates.seen[0]
    assert max(first) == pytest.approx(0.01)
    assert min(first) < 0.01 / 2
    assert result.record.config["layer_decay"] == 0.5


def test_new_parts_learn_at_a_rate_of_their_own(small_train, small_mcl, tmp_path):
    source = timm.create_model("resnet8", num_classes=10, in_chans=1)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    rates = Rates()
    settings = {"method": small_mcl, "lr": 0.01, "epochs": 1, "schedule": "ConstantLR"}
    settings |= {"schedule_args": {"factor": 1.0}, "model_weights": tmp_path / "weights.pth"}
    small_train(out=tmp_path / "run", new_parts_lr=10.0, warmup_epochs=0, callbacks=[rates], **settings)
    assert sorted(set(rates.seen[0])) == pytest.approx([0.01, 0.1])


def test_groups_are_split_by_what_learns_faster(tiny_network, tiny_data):
    method = MCL(tiny_network(), tiny_data, peers=3, num_negatives=8, dimension=4)
    new = new_parts(method)
    names = {name for name, one in method.named_parameters() if any(one is other for other in new)}
    assert all("projections" in name or ".fc." in name for name in names)
    assert sum(".fc." in name for name in names) == 2 * 3
    groups = faster_groups(layer_groups(method.networks, method.parameters(), 0.1, 0.7), new, 5.0)
    members = [id(one) for group in groups for one in group["params"]]
    assert sorted(members) == sorted(id(one) for one in method.parameters())
    fast = {id(one) for one in new}
    assert all((group["lr"] == pytest.approx(0.5)) == (id(group["params"][0]) in fast) for group in groups)


def test_accumulated_batches_make_one_step(small_train, tmp_path):
    # Without BatchNorm's batch statistics the mean gradient of two batches is that of one twice as large.
    result = small_train(out=tmp_path / "run", epochs=2, accumulate=2)
    assert result.record.training.steps == 4  # 4 batches an epoch
    assert small_train(out=tmp_path / "plain", epochs=2).record.training.steps == 8


@pytest.mark.parametrize("accumulate", [1, 3])
def test_mean_teachers_follow_once_a_step(small_train, tmp_path, accumulate):
    means = []

    class Seen(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            teachers = module.method.means
            means.append((float(teachers.steps), float(sum(one.sum() for one in teachers.parameters()))))

    method = partial(PCL, peers=2, ramp=0, decay=0.5)
    settings = {"accumulate": accumulate, "batch_size": 30, "val_fraction": 0}
    small_train(method=method, out=tmp_path / "run", epochs=1, callbacks=[Seen()], **settings)
    expected = [1 + batch // accumulate for batch in range(len(means))]
    assert len(means) > 2
    assert [steps for steps, _ in means] == expected
    assert len(set(means)) == max(expected)  # and each time they have changed


@pytest.mark.parametrize(
    ("method", "beside"),
    [
        (partial(MCL, peers=2, num_negatives=8, dimension=4), "contrast.projections.layers"),
        (SD, "shallow.exits"),
        (partial(ONE, peers=2), "gate.layers"),
        (partial(PCL, peers=2), "head.weight"),
    ],
)
def test_the_average_is_validated_and_becomes_the_student(small_train, tmp_path, method, beside):
    """With what is scored beside the networks, such as the exits that learnt on their maps."""
    watched = Watched()
    result = small_train(method=method, out=tmp_path / "run", epochs=2, ema=0.9, callbacks=[watched])
    names = averaged(result.method)
    assert any(name.startswith(beside) for name in names)
    average = {name: watched.steps[0][name] for name in names}
    for number, weights in enumerate(watched.steps[1:], start=1):
        decay = min(0.9, (1 + number) / (10 + number))
        average = {
            name: torch.lerp(weights[name], average[name], decay) if value.is_floating_point() else weights[name]
            for name, value in average.items()
        }
    final = result.method.state_dict()
    for name, value in average.items():
        torch.testing.assert_close(watched.validated[-1][name], value, msg=name)
        torch.testing.assert_close(final[name], value, msg=name)
    learnt = [name for name in names if name.endswith("weight")]
    assert not any(torch.equal(watched.steps[-1][name], final[name]) for name in learnt)


def test_banks_teachers_and_means_are_not_averaged(tiny_network, tiny_data):
    methods = [
        MCL(tiny_network(), tiny_data, peers=2, num_negatives=8, dimension=4),
        PCL(tiny_network(), tiny_data, peers=2),
        BornAgain(tiny_network(), tiny_data, generations=2),
        KD(tiny_network(), tiny_data, teacher=tiny_network()),
    ]
    for method in methods:
        learning = {name for name, weight in method.named_parameters() if weight.requires_grad}
        names = set(averaged(method))
        assert learning <= names
        assert not [name for name in names if name.startswith(("contrast.bank", "means", "others"))]


class Tied(nn.Module):
    """Two names for one weight."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Sequential(nn.Conv2d(1, 8, 3)), nn.Sequential(nn.Conv2d(8, 8, 3)))
        self.again = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1))
        self.again[0].weight = self.body[1][0].weight
        self.fc = nn.Linear(8, 10)

    def forward(self, images):
        return self.fc(self.again(self.body(images)).mean((2, 3)))


@pytest.mark.parametrize("model", ["resnet8", Tied()])
def test_training_goes_on_as_if_no_average_had_been_validated(small_train, tmp_path, model):
    """Also where one weight has two names: the last step's weights come back after every validation."""
    with_average, without = Watched(), Watched()
    settings = {"epochs": 3, "val_fraction": 0.2}
    for watched, ema in ((with_average, 0.9), (without, None)):
        out = tmp_path / str(ema)
        result = small_train(model=copy.deepcopy(model), out=out, ema=ema, callbacks=[watched], **settings)
        assert len(watched.steps) > 3
        if not isinstance(model, str):
            assert result.student.again[0].weight is result.student.body[1][0].weight
    for step, other in zip(with_average.steps, without.steps, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in step.items())


def test_a_run_with_an_average_goes_on_bit_for_bit(small_train, tmp_path):
    class Broken(Exception):
        pass

    class Break(Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                raise Broken

    whole = small_train(out=tmp_path / "whole", epochs=3, ema=0.95).student.state_dict()
    with pytest.raises(Broken):
        small_train(out=tmp_path / "parts", epochs=3, ema=0.95, callbacks=[Break()])
    resumed = small_train(out=tmp_path / "parts", epochs=3, ema=0.95, resume=True).student.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(last)
    checkpoint["average"] = {f"earlier.{name}": value for name, value in checkpoint["average"].items()}
    torch.save(checkpoint, last)
    with pytest.raises(UserError, match=r"an average of 'earlier\..*', which the method does not have"):
        small_train(out=tmp_path / "parts", epochs=3, ema=0.95, resume=True)


@pytest.mark.parametrize("epochs", [None, 1])
@pytest.mark.parametrize("method", [Baseline, "MCL"])
def test_frozen_stages_stay_as_they_are(small_train, small_mcl, tmp_path, epochs, method):
    watched = Watched()
    method = small_mcl if method == "MCL" else method
    small_train(
        method=method, out=tmp_path / "run", epochs=2, freeze_stages=1, freeze_epochs=epochs, callbacks=[watched]
    )
    begin, middle, end = watched.steps[0], watched.steps[len(watched.steps) // 2], watched.steps[-1]
    frozen = [name for name in begin if torch.equal(begin[name], middle[name])]
    assert any("conv1" in name for name in frozen)
    assert any("running_mean" in name for name in frozen)
    assert not any("fc" in name for name in frozen)
    assert all(torch.equal(begin[name], end[name]) for name in frozen) == (epochs is None)


def test_what_its_owner_has_frozen_does_not_learn_later(tiny_network, tiny_data):
    network = tiny_network()
    first, second = list(network.stage1.parameters())[:2]
    first.requires_grad_(False)
    frozen = FrozenStages(Baseline(network, tiny_data), 1, epochs=1)
    for epoch, learns in ((0, False), (1, True)):
        frozen._set(epoch)
        assert (first.requires_grad, second.requires_grad) == (False, learns)
    frozen.on_train_end(None, None)
    assert (first.requires_grad, second.requires_grad) == (False, True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_epochs": 4}, "warmup_epochs=4: give 0"),
        ({"warmup_epochs": -1}, "warmup_epochs=-1"),
        ({"warmup_epochs": 1, "schedule": "OneCycleLR"}, "OneCycleLR rises by itself"),
        (
            {"warmup_epochs": 1.5, "schedule": "CosineAnnealingWarmRestarts", "schedule_args": {"T_0": 4}},
            "CosineAnnealingWarmRestarts sets the rate anew after every epoch: give 1 or less",
        ),
        ({"new_parts_lr": 0.0}, r"new_parts_lr=0\.0: give a factor above 0"),
        ({"new_parts_lr": 10.0, "pretrained": False}, "every part is new"),
        ({"layer_decay": 0.0}, r"layer_decay=0\.0"),
        ({"layer_decay": 1.5}, r"layer_decay=1\.5"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"ema": 1.0}, r"^ema=1\.0"),
        ({"ema": 0.0}, r"^ema=0\.0"),
        ({"freeze_stages": 3}, "freeze_stages=3: the student has 3 stages"),
        ({"freeze_stages": -1}, "freeze_stages=-1"),
        ({"freeze_epochs": 2}, "freeze_epochs=2: say which"),
        ({"freeze_stages": 1, "freeze_epochs": 0}, "freeze_epochs=0"),
        ({"patience": 0}, "patience=0"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(settings, message, small_train, tmp_path):
    with pytest.raises(UserError, match=message):
        small_train(out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_the_decay_of_an_average_is_checked():
    with pytest.raises(UserError, match="between 0 and 1"):
        WeightAverage(2.0)


def test_statistics_are_means_over_batches_and_those_of_frozen_layers_stay():
    frozen, learning = nn.BatchNorm2d(3).eval(), nn.BatchNorm2d(3)
    for layer in (frozen, learning):
        layer.running_mean.fill_(2.0)
    batches = [torch.randn(8, 3, 4, 4) + number for number in (1, 4)]
    seen = torch.stack([frozen(images).mean((0, 2, 3)) for images in batches]).mean(0).detach()
    measure_statistics(nn.Sequential(frozen, learning), batches)
    assert torch.equal(frozen.running_mean, torch.full((3,), 2.0))
    torch.testing.assert_close(learning.running_mean, seen)
    assert learning.momentum == 0.1


def test_the_average_begins_anew_with_the_networks(small_train, tmp_path):
    seen: list[tuple[int, dict[str, torch.Tensor]]] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            state = module.method.networks.state_dict()
            seen.append((module.method.generation, {name: value.clone() for name, value in state.items()}))

    method = partial(BornAgain, generations=3)
    result = small_train(method=method, out=tmp_path / "run", epochs=3, ema=0.9, callbacks=[Watch()])
    of_last = [state for generation, state in seen if generation == 2]
    assert 1 < len(of_last) < len(seen)
    average = of_last[0]
    for count, state in enumerate(of_last[1:], start=1):
        decay = min(0.9, (1 + count) / (10 + count))
        average = {name: decay * average[name] + (1 - decay) * value for name, value in state.items()}
    for name, value in result.student.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, average[f"networks.0.{name}"], rtol=1e-4, atol=1e-6)


def test_the_best_epoch_of_a_method_of_methods_is_its_average(small_train, tmp_path):
    students = []
    for keep in ("last", "best"):
        out = tmp_path / keep
        both = partial(Combined, methods=["SD", "ZipfLS"])
        result = small_train(method=both, out=out, epochs=1, ema=0.9, keep=keep, val_fraction=0.2)
        students.append(result.student.state_dict())
    assert all(torch.equal(value, students[1][name]) for name, value in students[0].items())


def test_what_begins_to_learn_later_does_so_with_the_default_optimiser(small_train, tmp_path):
    teacher = build_model("resnet8", num_classes=10, in_chans=1)
    result = small_train(method=partial(FitNet, hint_epochs=1, teacher=teacher), out=tmp_path / "run", epochs=3)
    assert result.record.training.epochs == 3
