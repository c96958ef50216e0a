import pytest
import timm
import torch
from torch import nn

import classmates.models  # noqa: F401
from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.backbone.observe import hooked, observe
from classmates.networks.building.complexity import count_parameters, multiply_adds
from classmates.networks.heads.exits import Attention, EarlyExit, MultiExit, ShallowExits, first_confident

SHAPE = (3, 16, 16)


@pytest.fixture
def exits(tiny_network):
    torch.manual_seed(0)
    network = tiny_network()
    architecture = inspect_network(network, SHAPE)
    return MultiExit(network, architecture, ShallowExits(architecture, 4, attention=True)).eval()


@pytest.fixture
def images():
    return torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_sizes_are_those_of_the_released_code():
    network = timm.create_model("resnet18_cifar", num_classes=100)
    architecture = inspect_network(network, (3, 32, 32))
    shallow = ShallowExits(architecture, 4, attention=True)
    assert count_parameters(network) + count_parameters(shallow) == 12_283_344
    attention = sum(22 * c + 2 * c * c + 2 * c for c in (64, 128, 256))  # a SepConv and a BatchNorm each
    without = ShallowExits(architecture, 4, attention=False)
    assert count_parameters(shallow) - count_parameters(without) == attention


def test_attention_weighs_between_a_half_and_one_and_keeps_odd_sizes():
    torch.manual_seed(0)
    attention = Attention(4)
    maps = torch.rand(3, 4, 7, 5) + 1
    before = maps.clone()
    weights = attention(maps) / maps
    assert weights.shape == maps.shape
    assert torch.equal(maps, before)
    assert weights.min() >= 0.5
    assert weights.max() <= 1
    assert weights.std() > 1e-3


def test_every_depth_but_the_deepest_has_an_exit_of_the_embeddings_size(exits, images):
    output = observe(exits.network, exits.architecture, images)
    logits, embeddings = exits.shallow(output.stages)
    assert logits.shape == (2, 6, 4)
    assert embeddings.shape == (2, 6, 10)
    for number, exit_ in enumerate(exits.shallow.exits):
        torch.testing.assert_close(exit_(output.stages[number])[0], logits[number])
    everyone = exits(images)
    torch.testing.assert_close(everyone[:-1], logits)
    torch.testing.assert_close(everyone[-1], exits.network(images))


def test_fewer_depths_take_the_deepest_stages(exits, images):
    stages = observe(exits.network, exits.architecture, images).stages
    shallow = ShallowExits(exits.architecture, 2, attention=False)
    assert [stage.name for stage in shallow.stages] == ["stage2"]
    assert shallow(stages).logits.shape == (1, 6, 4)


def test_too_few_depths_are_refused(tiny_network):
    with pytest.raises(UserError, match="depths=1: the deepest exit is the network's own, so 2 or more"):
        ShallowExits(inspect_network(tiny_network(), SHAPE), 1, attention=False)


def test_first_confident():
    confidences = torch.tensor([[0.9, 0.4, 0.4, 0.7], [0.9, 0.8, 0.4, 0.9]])
    assert first_confident(confidences, torch.tensor([0.7, 0.5])).tolist() == [0, 1, 2, 1]  # 0.7 does not exceed 0.7
    assert first_confident(confidences, torch.tensor([1.0, 0.0])).tolist() == [1, 1, 1, 1]


def test_thresholds_0_and_1_choose_the_exit_and_the_ensemble(exits, images):
    everyone = exits(images)
    for number in range(3):
        chosen = EarlyExit(exits, [1.0] * number + [0.0] * (3 - number))(images)
        torch.testing.assert_close(chosen, everyone[number])
    torch.testing.assert_close(EarlyExit(exits, 1.0)(images), everyone.mean(0))


def test_each_image_gets_its_own_first_confident_exit(exits, images):
    everyone = exits(images)
    confidences = everyone.softmax(-1).amax(-1)
    thresholds = [confidences[0].median().item(), confidences[1].median().item(), 0.0]
    chosen = first_confident(confidences, torch.tensor(thresholds))
    assert len(set(chosen.tolist())) > 1
    expected = everyone[chosen, torch.arange(6)]
    together = EarlyExit(exits, thresholds)
    torch.testing.assert_close(together(images), expected)
    alone = torch.cat([together(image[None]) for image in images])
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-5)


def test_the_network_stops_where_all_are_answered(exits, images):
    ran = []
    exits.network.stage2.register_forward_hook(lambda *_: ran.append("stage2"))
    exits.network.stage3.register_forward_hook(lambda *_: ran.append("stage3"))
    EarlyExit(exits, [1.0, 0.0, 0.0])(images)
    assert ran == ["stage2"]
    exits.network(images)  # nothing stays behind in the network
    assert ran == ["stage2", "stage2", "stage3"]


def test_costs_count_what_runs_until_an_exit(exits):
    costs = exits.costs()
    whole = multiply_adds(exits.network, SHAPE)
    assert costs == sorted(costs)
    assert costs[-1] * whole == pytest.approx(multiply_adds(exits, SHAPE))
    first = nn.Sequential(exits.network.stage1, exits.shallow.exits[0].attention, exits.shallow.exits[0].aligner)
    assert costs[0] * whole == pytest.approx(multiply_adds(first, SHAPE) + 10 * 4)


@pytest.mark.parametrize(("thresholds", "message"), [([0.5, 0.5], "2 thresholds for 3 exits"), (1.5, r"1\.5, 1\.5")])
def test_wrong_thresholds_are_refused(exits, thresholds, message):
    with pytest.raises(UserError, match=message):
        EarlyExit(exits, thresholds)


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "densenet40_12", "vit_tiny_patch16_224", "convnext_atto"])
def test_exits_on_other_families(name):
    shape = (3, 32, 32)
    sized = {"img_size": 32, "patch_size": 8} if name.startswith("vit") else {}
    network = timm.create_model(name, num_classes=5, **sized)
    architecture = inspect_network(network, shape)
    exits = MultiExit(network, architecture, ShallowExits(architecture, 4, attention=True)).eval()
    images = torch.randn(2, *shape)
    everyone = exits(images)
    assert everyone.shape == (len(architecture.stages[-4:]), 2, 5)
    torch.testing.assert_close(EarlyExit(exits, 0.0)(images), everyone[0])
    torch.testing.assert_close(EarlyExit(exits, 1.0)(images), everyone.mean(0))


@pytest.mark.parametrize(
    "first", [nn.ReLU(inplace=True), nn.Dropout2d(0.5, inplace=True)], ids=["always", "training"]
)
def test_an_exit_sees_what_its_stage_returned_though_the_next_writes_into_it(first, images):
    torch.manual_seed(0)
    stages = [(3, 4), (4, 6), (6, 8)]
    network = nn.Sequential(*(nn.Sequential(first, nn.Conv2d(*sizes, 3, 2, 1)) for sizes in stages))
    network.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()).append(nn.Linear(8, 4))
    network.stage_names = ["0", "1", "2"]
    architecture = inspect_network(network, SHAPE)
    assert [stage.written for stage in architecture.stages] == [True, True, False]
    exits = MultiExit(network, architecture, ShallowExits(architecture, 4, attention=True))
    returned: list[torch.Tensor] = []
    for training in (True, False):
        exits.train(training)
        torch.manual_seed(1)
        with hooked(network, {"0": lambda output: returned.append(output.clone())}):
            output = observe(network, architecture, images)
        assert torch.equal(output.stages[0], returned.pop())
        output.logits.sum().backward()
    everyone = exits(images)
    for number in range(3):
        chosen = EarlyExit(exits, [1.0] * number + [0.0] * (3 - number))(images)
        torch.testing.assert_close(chosen, everyone[number])
