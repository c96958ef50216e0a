import inspect
import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.methods import MCL
from classmates.networks.memory import bank_contrast
from classmates.networks.memory.bank_contrast import DRAWS

Make = Callable[..., nn.Module]


def test_of_few_samples_every_one_is_taken_by_default(make_mcl: Callable[..., MCL], tiny_batch: Batch) -> None:
    automatic, every = make_mcl(negatives="auto"), make_mcl(negatives="all")
    assert automatic(tiny_batch).terms["contrast"] == every(tiny_batch).terms["contrast"]
    assert inspect.signature(MCL).parameters["negatives"].default == "auto"


@pytest.mark.parametrize(("asked", "draw"), [(4, "auto"), (11, "auto"), (12, "all"), (99, "all")])
def test_who_asks_for_as_many_negatives_as_the_bank_has_gets_all_of_it(
    make_mcl: Callable[..., MCL], monkeypatch: pytest.MonkeyPatch, asked: int, draw: str, tiny_network: Make
) -> None:
    """Though no more can be taken than are of other classes than the largest."""
    monkeypatch.setattr(bank_contrast, "ENOUGH_ROWS", 8)
    data = DataSpec(4, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], (3, 16, 16))
    contrast = MCL(tiny_network(), data, num_negatives=asked).contrast
    assert contrast.draw is DRAWS[draw]
    assert contrast.num_negatives == min(asked, 9)


def test_without_a_weight_the_contrast_takes_no_memory(make_mcl: Callable[..., MCL], tiny_batch: Batch) -> None:
    method = make_mcl(beta=0.0)
    assert not any("contrast" in name or "bank" in name for name in method.state_dict())
    assert method(tiny_batch).terms.keys() == {"ce", "distillation"}
    of_one_class = DataSpec(4, [0] * 12, (3, 16, 16))
    with pytest.raises(UserError, match="class"):
        MCL(make_mcl().student(), of_one_class)
    MCL(make_mcl().student(), of_one_class, beta=0.0)


def test_banks_learn_of_a_batch_after_it_was_used(make_mcl: Callable[..., MCL], tiny_batch: Batch) -> None:
    method = make_mcl(peers=3, momentum=0.25)
    before = method.contrast.bank.rows.clone()
    with torch.no_grad():
        embeddings = method.contrast.projections(method.networks(tiny_batch.images))
    method(tiny_batch)
    for peer in range(3):
        for place, index in enumerate(tiny_batch.indices.tolist()):
            expected = 0.25 * before[peer, index] + 0.75 * embeddings[peer, place]
            torch.testing.assert_close(method.contrast.bank.rows[peer, index], expected / expected.norm())
    others = [index for index in range(36) if index not in tiny_batch.indices.tolist()]
    assert torch.equal(method.contrast.bank.rows[:, others], before[:, others])
    torch.testing.assert_close(method.contrast.bank.rows.norm(dim=-1), torch.ones(3, 36))


def test_what_no_batch_has_had_yet_plays_no_part_where_it_is_masked(
    make_mcl: Callable[..., MCL], tiny_batch: Batch
) -> None:
    method = make_mcl(unwritten="masked", negatives="all")
    live = make_mcl(unwritten="masked", negatives="all", positives="live")
    assert method(tiny_batch).terms["contrast"] == live(tiny_batch).terms["contrast"]  # in the first step
    torch.testing.assert_close(
        method.contrast.bank.read(tiny_batch.indices), method.contrast.projections(method(tiny_batch).outputs)
    )
    for one in (method, live):
        one.contrast.bank.rows.copy_(one.contrast.bank.rows.roll(1, dims=-1))
    assert method(tiny_batch).terms["contrast"] != live(tiny_batch).terms["contrast"]
    unseen = ~method.contrast.bank.written
    assert 0 < unseen.sum() == 36 - len(tiny_batch.indices)
    before = method.eval()(tiny_batch).terms["contrast"]
    method.contrast.classes.labels[unseen] = 0  # whatever is said of them
    method.contrast.classes.counts.copy_(method.contrast.classes.labels.bincount(minlength=4))
    assert method(tiny_batch).terms["contrast"] == before


def test_evaluation_leaves_the_banks_alone(make_mcl: Callable[..., MCL], tiny_batch: Batch) -> None:
    method = make_mcl().eval()
    before = method.contrast.bank.rows.clone()
    assert "contrast" in method(tiny_batch).terms
    assert torch.equal(method.contrast.bank.rows, before)


@pytest.mark.parametrize("normaliser", ["batch", "first_batch", "lagged"])
def test_a_saved_method_goes_on_to_the_last_bit(
    make_mcl: Callable[..., MCL], tiny_batch: Batch, normaliser: str
) -> None:
    method = make_mcl(normaliser=normaliser, bank_dtype="bfloat16")
    method(tiny_batch)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    other = make_mcl(seed=1, normaliser=normaliser, bank_dtype="bfloat16")
    other.load_state_dict(torch.load(file, weights_only=True))
    for (name, tensor), (other_name, other_tensor) in zip(method.named_buffers(), other.named_buffers(), strict=True):
        assert name == other_name
        assert torch.equal(tensor, other_tensor)
    for _ in range(2):
        totals = []
        for one in (method, other):
            torch.manual_seed(7)
            output = one(tiny_batch)
            one.zero_grad()
            output.total.backward()
            totals.append((output.total, *(parameter.grad for parameter in one.parameters())))
        assert all(torch.equal(one, two) for one, two in zip(*totals, strict=True))
    assert torch.equal(method.contrast.bank.rows, other.contrast.bank.rows)
    assert other.contrast.log_mean_known


def test_checkpoints_of_earlier_versions_load(make_mcl: Callable[..., MCL], tiny_batch: Batch) -> None:
    method, other = make_mcl(normaliser="lagged"), make_mcl(seed=1, normaliser="lagged")
    method(tiny_batch)
    earlier = {name.replace("contrast.", ""): value for name, value in method.state_dict().items()}
    assert {"bank.rows", "log_mean", "_extra_state"} <= earlier.keys()
    other.load_state_dict(earlier)
    assert torch.equal(other.contrast.bank.rows, method.contrast.bank.rows)
    assert torch.equal(other.contrast.log_mean, method.contrast.log_mean)
    assert other.contrast.log_mean_known


def test_peer_models_of_other_architectures_by_name_and_as_modules(tiny_data: DataSpec, tiny_network: Make) -> None:
    torch.manual_seed(0)
    helper = tiny_network(widths=(5, 7), in_chans=1)
    # Without an input shape the student says how many channels a named helper gets.
    data = DataSpec(4, tiny_data.labels)
    method = MCL(
        tiny_network(in_chans=1), data, peers=3, share="nothing", peer_models=[helper, "resnet8"], num_negatives=5
    )
    assert method.networks.networks[0] is helper
    assert type(method.networks.networks[1]) is type(timm.create_model("resnet8"))
    assert [layer.in_features for layer in method.contrast.projections.layers] == [7, 64, 10]
    indices = torch.arange(8)
    output = method(Batch(torch.randn(8, 1, 32, 32), tiny_data.labels[indices], indices))
    output.total.backward()
    assert all(term.isfinite() for term in output.terms.values())
    assert helper.stage1[0].weight.grad.any()


def test_k_is_capped_with_a_note(tiny_network: Make) -> None:
    data = DataSpec(4, [0] * 10 + [1, 2, 3], (3, 16, 16))
    with pytest.warns(UserWarning, match="num_negatives=256 capped to 3") as caught:
        method = MCL(tiny_network(), data)
    assert method.contrast.num_negatives == 3
    assert method.notes == [str(caught[0].message)]
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MCL(tiny_network(), data, num_negatives=3).notes == []


def test_the_papers_values_are_the_defaults(tiny_network: Make) -> None:
    method = MCL(tiny_network(), DataSpec(4, torch.arange(600) % 4, (3, 16, 16)))
    assert method.weights == {"ce": 1.0, "distillation": 9.0, "contrast": 0.025}
    assert (method.contrast.num_negatives, method.contrast.temperature, method.temperature) == (256, 0.1, 3.0)
    assert method.contrast.bank.rows.shape == (4, 600, 128)
    assert method.networks.trunk.split == "stage1"
    assert list(method.predictions(method(_noise(600)).outputs)) == ["student", "peer1", "peer2", "peer3", "ensemble"]


def _noise(samples: int) -> Batch:
    indices = torch.arange(8) * samples // 8
    return Batch(torch.randn(8, 3, 16, 16), indices % 4, indices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peers": 1}, "peers=1: MCL contrasts peers with each other and needs at least 2"),
        ({"num_negatives": 0}, "num_negatives=0: a positive needs at least 1 negative"),
        ({"temperature": 0.0}, "temperature=0.0: a temperature must be above 0"),
        ({"contrast_temperature": -0.1}, "contrast_temperature=-0.1: a temperature must be above 0"),
        ({"temperature": math.nan}, "temperature=nan: a temperature must be above 0"),
        ({"dimension": 0}, "0 dimensions"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"distil_to": "students"}, "unknown distil_to 'students': did you mean 'student'"),
        ({"distilled": "classifiers"}, "unknown distilled 'classifiers': did you mean 'classifier'"),
        ({"positives": "bnk"}, "unknown positives 'bnk': did you mean 'bank'"),
        ({"normaliser": "first"}, "unknown normaliser 'first': did you mean 'first_batch'"),
        ({"negatives": "every"}, "unknown negatives 'every': there are: all, auto, independent, shared"),
        ({"unwritten": "mask"}, "unknown unwritten 'mask': did you mean 'masked'"),
        ({"unwritten": "masked", "normaliser": "anchor"}, "unwritten='masked' and normaliser='anchor'"),
        ({"unwritten": "masked", "normaliser": "first_batch"}, "use the normaliser batch or lagged"),
        ({"bank": "shards"}, "unknown bank 'shards': did you mean 'sharded'"),
        ({"bank": "sharded", "negatives": "independent"}, "bank=sharded and negatives=independent"),
        ({"bank_dtype": "float16"}, "unknown bank_dtype 'float16': did you mean .*'bfloat16'"),
        ({"start": "new"}, "unknown start 'new': there are: fresh, identical, same"),
        ({"share": "stage9"}, "share='stage9' is no stage"),
        ({"peer_models": ["resnet8"]}, "share=-2: peer_models are other architectures and share nothing"),
        ({"peer_models": ["resnet8"], "share": "nothing"}, "1 peer_models and the student are 2 peers, not 4"),
        (
            {"peer_models": ["resnt8"], "share": "nothing", "peers": 2},
            "unknown model 'resnt8': did you mean .*'resnet8'",
        ),
    ],
)
def test_what_cannot_be(tiny_network: Make, tiny_data: DataSpec, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MCL(tiny_network(), tiny_data, **{"num_negatives": 5, **options})


def test_data_of_one_class_have_no_negatives(tiny_network: Make) -> None:
    with pytest.raises(UserError, match="all 5 training samples are of class 2, so none has a negative"):
        MCL(tiny_network(), DataSpec(4, [2] * 5, (3, 16, 16)))


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_how_much_memory_its_banks_take_is_noted_where_it_is_much(dtype, size, tiny_network, tiny_data, monkeypatch):
    monkeypatch.setattr("classmates.networks.memory.bank_contrast.LARGE", 3 * 36 * 8 * size)
    with pytest.warns(UserWarning, match="memory banks: 3 times 36 embeddings of 8, 0.0 GB") as warned:
        MCL(tiny_network(), tiny_data, peers=3, num_negatives=4, dimension=8, bank_dtype=dtype)
    assert ("bank_dtype bfloat16 halves that" in str(warned[0].message)) is (dtype == "float32")
    MCL(tiny_network(), tiny_data, peers=3, num_negatives=4, dimension=7, bank_dtype=dtype)
