"""Exits on disk: what was saved is what is loaded, and what cannot be is named."""

import pytest
import safetensors.torch
import torch
from torch import nn

from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.heads.exits import EarlyExit, MultiExit, ShallowExits, is_exact
from classmates.runs.exits import EXITS, KEY, load_early_exit, load_exits, save_exits
from classmates.runs.student import StudentCard, read_card, save_student, write_card

SHAPE = (3, 16, 16)


@pytest.fixture(params=[True, False], ids=["attention", "plain"])
def saved(request, tmp_path, tiny_network):
    torch.manual_seed(0)
    network = tiny_network().eval()
    network.stage_names = ["stage1", "stage2", "stage3"]
    architecture = inspect_network(network, SHAPE)
    exits = MultiExit(network, architecture, ShallowExits(architecture, 2, attention=request.param)).eval()
    card = StudentCard(None, tuple("abcd"), SHAPE, (0.5,) * 3, (0.2,) * 3, (16, 16))
    save_student(tmp_path, network, card)
    save_exits(tmp_path, exits)
    return tmp_path, exits


def test_what_was_saved_is_what_is_loaded(saved, tiny_network):
    folder, exits = saved
    loaded, card = load_exits(folder, tiny_network(seed=1))
    images = torch.randn(5, *SHAPE)
    assert len(loaded.shallow) == 1
    torch.testing.assert_close(loaded(images), exits(images))
    assert card == read_card(folder)


def test_thresholds_are_those_of_the_card(saved, tiny_network):
    folder, exits = saved
    with pytest.raises(UserError, match=r"no thresholds yet: `classmates export .* --what early_exit`"):
        load_early_exit(folder, tiny_network())
    card = StudentCard(**{**vars(read_card(folder)), "exit_thresholds": (0.4, 0.0)})
    write_card(folder, card)
    early, found = load_early_exit(folder, tiny_network())
    assert found == card
    images = torch.randn(8, *SHAPE)
    torch.testing.assert_close(early(images), EarlyExit(exits, [0.4, 0.0])(images))


def test_a_run_without_exits_and_a_damaged_file(saved, tiny_network):
    folder, _ = saved
    (folder / EXITS).write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"exits.safetensors' is damaged"):
        load_exits(folder, tiny_network())
    (folder / EXITS).unlink()
    with pytest.raises(UserError, match=r"no early exits.*--method SD or DeepSupervision"):
        load_exits(folder, tiny_network())


@pytest.mark.parametrize("where", ["[]", "1", "{}", '{"stages": 1, "depths": 2, "attention": true}', "[" * 100_000])
def test_places_of_exits_that_are_none(saved, tiny_network, where):
    folder, exits = saved
    safetensors.torch.save_file(dict(exits.shallow.state_dict()), folder / EXITS, {"format": "pt", KEY: where})
    with pytest.raises(UserError, match=r"exits.safetensors' is damaged"):
        load_exits(folder, tiny_network())


class ReachesBack(nn.Module):
    """A network in which something of the whole batch comes in again after the second stage."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images):
        maps = self.network.stage2(self.network.stage1(images))
        return self.network.fc(self.network.stage3(maps).mean((2, 3)) + images.mean((1, 2, 3))[:, None])


def test_a_network_that_wants_the_whole_batch_keeps_it(tiny_network):
    torch.manual_seed(0)
    networks = {True: tiny_network().eval(), False: ReachesBack(tiny_network()).eval()}
    for exact, network in networks.items():
        architecture = inspect_network(network, SHAPE)
        exits = MultiExit(network, architecture, ShallowExits(architecture, 3, attention=False)).eval()
        images = torch.randn(6, *SHAPE)
        assert is_exact(exits, images) == exact
        everyone = exits(images)
        thresholds = everyone.softmax(-1).amax(-1).sort(1).values[:, 2:4].mean(1).tolist()
        with torch.no_grad():
            found, by = EarlyExit(exits, thresholds, per_image=exact).answer(images)
        answers = torch.cat([everyone, everyone.mean(0, keepdim=True)])
        torch.testing.assert_close(found, answers[by, torch.arange(6)])
        assert len(set(by.tolist())) > 1


def test_deeper_stages_run_for_those_images_alone_that_need_them(saved, tiny_network):
    _, exits = saved
    seen = []
    exits.network.stage3.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    images = torch.randn(8, *SHAPE)
    sure = exits(images).softmax(-1).amax(-1)[0]
    seen.clear()
    EarlyExit(exits, [sure.sort().values[4].item(), 0.0])(images)
    assert seen == [5]
