"""Values that can work with no data are refused before the data are read."""

import inspect

import pytest

from classmates.errors import UserError
from classmates.training.config import TrainConfig
from classmates.training.train import train


@pytest.mark.parametrize(
    ("devices", "nodes", "processes"),
    [(1, 1, 1), (4, 1, 4), ("4", 2, 8), ("auto", 1, 3), (-1, 2, 6), ("1,", 1, 1), ("0,2", 1, 2), ("gpus", 1, 1)],
)
def test_how_many_processes_share_a_batch(monkeypatch, devices, nodes, processes):
    monkeypatch.setattr("classmates.training.config.device_type", lambda accelerator: "cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    given = {name: entry.default for name, entry in inspect.signature(train).parameters.items()}
    assert TrainConfig(**{**given, "data": "digits", "devices": devices, "num_nodes": nodes}).processes == processes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({"batch_size": size}, f"batch_size={size}: images a step, 1 or more, or auto") for size in (0, -3)),
        *(({"lr": rate}, f"lr={rate}: .* above 0") for rate in (0, 0.0, -1.0)),
        *(({"lr": rate}, f"lr.*{rate}") for rate in (float("nan"), float("inf"))),
    ],
)
@pytest.mark.parametrize("precision", ["auto", "32-true"])
def test_numbers_by_which_nothing_is_learnt_are_refused(settings, message, precision, small_train, tmp_path):
    with pytest.raises(UserError, match=message):
        small_train(data="nothing", out=tmp_path / "run", precision=precision, **settings)
    assert not (tmp_path / "run").exists()
