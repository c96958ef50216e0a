import copy
import io
from collections.abc import Callable

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.peers.peers import Peers, shared_stages, shuffle_weights

Make = Callable[..., nn.Module]


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def random_statistics(network: nn.Module) -> None:
    """BatchNorm statistics and biases that a mix-up of two networks would not survive."""
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5)


def test_one_network_alone_is_the_student(tiny_network: Make, tiny_data: DataSpec) -> None:
    network = tiny_network()
    peers = Peers(network, tiny_data)
    assert len(peers) == 1
    assert peers.student is network
    assert peers.trunk is None
    (output,) = peers(images())
    assert torch.equal(output.logits, network(images()))


@pytest.mark.parametrize("share", ["nothing", -2, 1, 2, "stage1", "stage2", "stage2.1"])
def test_each_peer_is_a_whole_network_to_the_last_bit(
    tiny_network: Make, tiny_data: DataSpec, share: int | str
) -> None:
    network = tiny_network()
    if share == "stage2.1":
        network.stage_names = ["stage1", "stage2.1", "stage3"]
    peers = Peers(network, tiny_data, 3, share=share).eval()
    for one in peers.networks:
        random_statistics(one)
    with torch.no_grad():
        outputs = peers(images())
        for one, output in zip(peers.networks, outputs, strict=True):
            # The student with everything that this peer owns in its place.
            whole = copy.deepcopy(network)
            whole.load_state_dict(one.state_dict(), strict=False)
            assert torch.equal(whole(images()), output.logits)
            assert torch.equal(whole.fc(output.embedding), output.logits)
            assert [stage.shape[1:] for stage in output.stages] == [(4, 8, 8), (6, 4, 4), (10, 2, 2)]
    assert not torch.equal(outputs[0].logits, outputs[1].logits)
    assert not torch.equal(outputs[0].logits, outputs[2].logits)


@pytest.mark.parametrize(
    ("share", "owned"),
    [
        ("nothing", {"stage1", "stage2", "stage3", "fc"}),
        (1, {"stage2", "stage3", "fc"}),
        (-2, {"stage2", "stage3", "fc"}),
        (-1, {"stage3", "fc"}),
        ("stage2", {"stage3", "fc"}),
    ],
)
def test_what_peers_own(tiny_network: Make, tiny_data: DataSpec, share: int | str, owned: set[str]) -> None:
    peers = Peers(tiny_network(), tiny_data, 3, share=share)
    for peer in peers.networks[:-1]:
        assert {name.partition(".")[0] for name, _ in peer.named_parameters()} == owned
    own = [id(parameter) for network in peers.networks for parameter in network.parameters()]
    assert len(own) == len(set(own))
    assert len(list(peers.student.parameters())) == 11


def test_a_peer_teaches_the_trunk_and_itself_alone(tiny_network: Make, tiny_data: DataSpec) -> None:
    peers = Peers(tiny_network(), tiny_data, 3, share=-2)
    peers(images())[0].logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in peers.networks[0].parameters())
    assert all(parameter.grad is None for parameter in peers.networks[1].parameters())
    taught = {name.partition(".")[0] for name, p in peers.student.named_parameters() if p.grad is not None}
    assert taught == {"stage1"}


def test_trunk_is_fed_by_every_peer(tiny_network: Make, tiny_data: DataSpec) -> None:
    peers = Peers(tiny_network(), tiny_data, 3, share=-2)
    weight = peers.student.stage1[0].weight

    def gradient(*chosen: int) -> Tensor:
        outputs = peers(images())
        (result,) = torch.autograd.grad(sum(outputs[peer].logits[:, 0].sum() for peer in chosen), weight)
        return result

    torch.testing.assert_close(gradient(0, 1, 2), gradient(0) + gradient(1) + gradient(2))


def test_the_trunk_runs_once_and_is_empty_afterwards(tiny_network: Make, tiny_data: DataSpec) -> None:
    network = tiny_network()
    peers = Peers(network, tiny_data, 4, share=-2)
    runs: list[str] = []
    handles = [
        network.get_submodule(name).register_forward_hook(lambda *_, n=name: runs.append(n))
        for name in ("stage1", "fc")
    ]
    peers(images())
    assert runs == ["stage1", "fc"]
    assert peers.trunk.outputs == {}
    for handle in handles:
        handle.remove()
    with pytest.raises(RuntimeError):
        peers(torch.randn(2, 5, 16, 16))
    assert peers.trunk.outputs == {}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in peers.modules())


@pytest.mark.parametrize("share", ["nothing", -2])
def test_fresh_peers_have_other_weights_of_the_same_kind(
    tiny_network: Make, tiny_data: DataSpec, share: int | str
) -> None:
    peers = Peers(tiny_network(), tiny_data, 3, share=share)
    student = dict(peers.student.named_parameters())
    first, second = (dict(peer.named_parameters()) for peer in peers.networks[:-1])
    for name, parameter in first.items():
        for other in (student[name], second[name]):
            assert torch.equal(parameter.flatten().sort().values, other.flatten().sort().values)
            if parameter.min() == parameter.max():
                assert torch.equal(parameter, other)
            elif parameter.numel() > 8:  # a few numbers may fall into their old order
                assert not torch.equal(parameter, other)
    assert torch.equal(first["stage2.1.weight"], torch.ones(6))  # BatchNorm begins as it always does


def test_same_peers_differ_in_their_classifiers_alone(tiny_network: Make, tiny_data: DataSpec) -> None:
    peers = Peers(tiny_network(), tiny_data, 3, share=-2, start="same")
    student = dict(peers.student.named_parameters())
    for peer in peers.networks[:-1]:
        other = {name for name, p in peer.named_parameters() if not torch.equal(p, student[name])}
        assert {"fc.weight"} <= other <= {"fc.weight", "fc.bias"}  # four biases may fall into their old order
    first, second, _ = peers.networks
    assert not torch.equal(first.fc.weight, second.fc.weight)


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1))
def test_shuffle_weights_keeps_the_values_and_what_is_frozen(seed: int) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5))
    network[2].weight.requires_grad_(False)
    before = copy.deepcopy(network)
    shuffle_weights(network)
    for (name, now), then in zip(network.named_parameters(), before.parameters(), strict=True):
        assert now.shape == then.shape
        assert torch.equal(now.flatten().sort().values, then.flatten().sort().values)
        if name == "0.weight":
            assert not torch.equal(now, then)
    assert torch.equal(network[2].weight, before[2].weight)


def test_other_architectures_as_peers(tiny_network: Make, tiny_data: DataSpec) -> None:
    peer_models = [tiny_network(widths=(8, 12)), timm.create_model("test_resnet", num_classes=4)]
    student = tiny_network()
    peers = Peers(student, tiny_data, 3, peer_models=peer_models).eval()
    outputs = peers(images())
    assert list(peers.networks) == [*peer_models, student]
    assert [architecture.embedding for architecture in peers.architectures] == [12, peer_models[1].num_features, 10]
    assert peers.architecture is peers.architectures[-1]
    for network, output in zip(peers.networks, outputs, strict=True):
        assert torch.equal(network(images()), output.logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "peers=0: the student is one of them, so there is at least 1"),
        ({"start": "frsh"}, "unknown start 'frsh': did you mean 'fresh'"),
        ({"share": "stage4"}, "share='stage4' is no stage of the network: did you mean 'stage[123]'"),
        ({"share": "everything"}, "share='everything' is no stage of the network: did you mean 'nothing'"),
        ({"share": 0}, r"share=0 shares 0 of 3 stages \(stage1, stage2, stage3\): share at least one"),
        ({"share": 3}, "share=3 shares 3 of 3 stages .* leave at least one to each peer"),
        ({"share": -3}, "share=-3 shares 0 of 3 stages"),
        ({"share": "stage3"}, "share='stage3' shares 3 of 3 stages"),
        ({"peer_models": 1}, "1 peer_models and the student are 2 peers, not 3: say --method.peers 2"),
        (
            {"peer_models": 2, "share": -2},
            "share=-2: peer_models are other architectures and share nothing: share='nothing'",
        ),
        ({"peer_models": 2, "start": "identical"}, "start='identical': peer_models are other networks"),
    ],
)
def test_what_cannot_be(tiny_network: Make, tiny_data: DataSpec, options: dict[str, object], message: str) -> None:
    peer_models = [tiny_network() for _ in range(options.pop("peer_models", 0))]
    with pytest.raises(UserError, match=message):
        Peers(tiny_network(), tiny_data, **{"count": 3, "peer_models": peer_models, **options})


def test_classes_must_be_the_data_s(tiny_network: Make, tiny_data: DataSpec) -> None:
    with pytest.raises(UserError, match=r"TinyNetwork has 7 outputs but the data have 4 classes: .* num_classes=4"):
        Peers(tiny_network(num_classes=7), tiny_data)
    with pytest.raises(UserError, match="ResNet has 7 outputs but the data have 4 classes"):
        Peers(tiny_network(), tiny_data, 2, peer_models=[timm.create_model("test_resnet", num_classes=7)])


def test_a_network_cannot_be_two_peers(tiny_network: Make, tiny_data: DataSpec) -> None:
    network, helper = tiny_network(), tiny_network()
    for peer_models in ([helper, helper], [helper, network]):
        with pytest.raises(UserError, match="the same network is given as two peers"):
            Peers(network, tiny_data, 3, peer_models=peer_models)


@given(st.integers(-6, 6))
def test_share_counts_stages_as_slices_do(share: int) -> None:
    names = ["2", "6", "10", "14"]
    stages = nn.Sequential(*(nn.Conv2d(3, 3, 3, 2, 1) for _ in range(4)), nn.Flatten(), nn.Linear(3, 2))
    architecture = inspect_network(stages, (3, 16, 16))
    expected = len(names[:share])
    if 0 < expected < 4:
        assert shared_stages(architecture, share) == expected
    else:
        with pytest.raises(UserError, match=f"share={share} shares {expected} of 4 stages"):
            shared_stages(architecture, share)


@pytest.mark.parametrize("share", ["nothing", -2])
def test_a_copy_is_a_world_of_its_own(tiny_network: Make, tiny_data: DataSpec, share: int | str) -> None:
    peers = Peers(tiny_network(), tiny_data, 3, share=share).eval()
    other = copy.deepcopy(peers)
    expected = [output.logits for output in peers(images())]
    assert all(torch.equal(output.logits, logits) for output, logits in zip(other(images()), expected, strict=True))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert not any(output.logits.any() for output in other(images()))
    assert all(torch.equal(output.logits, logits) for output, logits in zip(peers(images()), expected, strict=True))


def test_state_goes_from_one_to_another(tiny_network: Make, tiny_data: DataSpec) -> None:
    peers = Peers(tiny_network(), tiny_data, 3, share=-2).eval()
    for network in peers.networks:
        random_statistics(network)
    file = io.BytesIO()
    torch.save(peers.state_dict(), file)
    file.seek(0)
    other = Peers(tiny_network(seed=1), tiny_data, 3, share=-2).eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    for one, output in zip(other(images()), peers(images()), strict=True):
        assert torch.equal(one.logits, output.logits)


def test_weights_of_two_values_are_a_pattern_and_stay() -> None:
    network = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6), nn.BatchNorm1d(6))
    nn.init.eye_(network[0].weight)
    before = copy.deepcopy(network.state_dict())
    shuffle_weights(network)
    assert torch.equal(network[0].weight, torch.eye(6))
    assert not torch.equal(network[1].weight, before["1.weight"])


def test_a_state_that_is_no_tensor_is_the_students(tiny_data: DataSpec) -> None:
    class Counting(nn.Sequential):
        seen = 3

        def get_extra_state(self) -> dict[str, int]:
            return {"seen": self.seen}

        def set_extra_state(self, state: dict[str, int]) -> None:
            self.seen = state["seen"]

    layers = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    peers = Peers(Counting(*layers, nn.Linear(6, 4)), tiny_data, 2, share="nothing", start="identical")
    images = torch.randn(2, 3, 16, 16)
    peers.put_average()
    assert len(peers.judged(images)) == 3
    peers.put_back()
    assert peers.student.seen == 3
