from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.backbone.stages import Layout, token_grid

Make = Callable[..., nn.Module]


def found(network: nn.Module, shape: tuple[int, int, int] = (3, 32, 32)) -> dict[str, tuple[int, int, int]]:
    return {stage.name: stage.shape for stage in inspect_network(network, shape).stages}


def convolutions(*widths: int) -> list[nn.Module]:
    return [
        layer
        for before, after in zip((3, *widths), widths, strict=False)
        for layer in (
            nn.Conv2d(before, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
    ]


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.pool(F.relu(self.conv1(images)))
        maps = self.pool(F.relu(self.conv2(maps)))
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(maps.flatten(1))))))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.expand(self.reduce(maps.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Transformer(nn.Module):
    """torch's own encoder on patches of 8 pixels, with a class token, behind ``stem``."""

    def __init__(self, stem: nn.Module, depth: int):
        super().__init__()
        self.stem = stem
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth)
        self.head = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1)
        return self.head(self.encoder(tokens)[:, 0])


def test_the_last_module_at_each_resolution() -> None:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    plain = nn.Sequential(*convolutions(4, 6, 8)[:-1], *head)
    assert found(plain) == {"2": (4, 32, 32), "6": (6, 16, 16), "10": (8, 8, 8)}
    nested = nn.Sequential(nn.Sequential(*convolutions(4, 6, 8)), *head)  # the last pooling makes no stage of its own
    assert found(nested) == {"0.2": (4, 32, 32), "0.6": (6, 16, 16), "0.10": (8, 8, 8)}
    assert found(LeNet()) == {"conv1": (6, 28, 28), "conv2": (16, 10, 10)}


def test_outer_modules_are_preferred_to_what_is_in_them(tiny_network: Make) -> None:
    assert found(tiny_network()) == {"stage1": (4, 16, 16), "stage2": (6, 8, 8), "stage3": (10, 4, 4)}


def test_a_side_path_that_shrinks_is_no_stage() -> None:
    blocks = [
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), SqueezeExcite(8)),
        nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), SqueezeExcite(8)),
    ]
    network = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    assert found(network) == {"0": (8, 16, 16), "1": (8, 8, 8)}


def test_a_row_of_equal_blocks_is_cut_into_equal_parts() -> None:
    transformer = Transformer(nn.Conv2d(3, 16, 8, 8), depth=8)
    assert found(transformer) == {f"encoder.layers.{last}": (16, 4, 4) for last in (1, 3, 5, 7)}
    assert found(Transformer(nn.Conv2d(3, 16, 8, 8), depth=3)) == {
        f"encoder.layers.{i}": (16, 4, 4) for i in range(3)
    }


def test_stages_of_a_stem_alone_are_not_the_network_s() -> None:
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1))
    assert found(Transformer(stem, depth=8)) == {f"encoder.layers.{last}": (16, 4, 4) for last in (1, 3, 5, 7)}


def test_an_image_that_is_not_square(tiny_network: Make) -> None:
    assert found(tiny_network(), (3, 32, 16)) == {"stage1": (4, 16, 8), "stage2": (6, 8, 4), "stage3": (10, 4, 2)}
    assert found(Transformer(nn.Conv2d(3, 16, 8, 8), depth=2), (3, 32, 16))["encoder.layers.1"] == (16, 4, 2)


def test_names_of_one_s_own(tiny_network: Make) -> None:
    network = tiny_network()
    network.stage_names = ("stage1.0", "stage3")
    assert found(network) == {"stage1.0": (4, 16, 16), "stage3": (10, 4, 4)}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["stage1", "stag3"], r"stage 'stag3' of TinyNetwork is not among the modules .*did you mean 'stage3'"),
        (["stage1", "fc"], r"stage 'fc' of TinyNetwork is not among the modules that ran before the classifier"),
        (["stage2"], r"1 stages found in TinyNetwork from the names given; at least 2 are needed"),
        (["stage3", "stage1"], r"must be named shallow to deep, each once: \['stage1', 'stage3'\]"),
        (["stage1", "stage1", "stage3"], r"each once: \['stage1', 'stage3'\]"),
    ],
)
def test_names_that_cannot_be(tiny_network: Make, names: list[str], message: str) -> None:
    network = tiny_network()
    network.stage_names = names
    with pytest.raises(UserError, match=message):
        inspect_network(network, (3, 16, 16))


def test_a_named_module_that_returns_no_map() -> None:
    network = LeNet()
    network.stage_names = ["conv1", "fc1"]
    with pytest.raises(UserError, match="stage 'fc1' of LeNet returns no map: did you mean 'conv1'"):
        inspect_network(network, (3, 32, 32))


def test_no_stages_is_an_error_that_shows_what_was_tried_and_how_to_name_them() -> None:
    one_map = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 4))
    message = r"1 stages found in Sequential from its maps' resolutions.*stages=\[\.\.\.\].*'0' \[8, 14, 14\], '1'"
    with pytest.raises(UserError, match=message):
        inspect_network(one_map, (3, 16, 16))
    no_map = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(UserError, match=r"0 stages found .* such as none: it has no maps"):
        inspect_network(no_map, (3, 16, 16))


@given(height=st.integers(2, 20), width=st.integers(2, 20), patch=st.integers(1, 32), prefix=st.integers(0, 2))
def test_token_grid_is_the_grid_of_patches(height: int, width: int, patch: int, prefix: int) -> None:
    # A prefix as long as a row or a column could be a row or a column: no such image is meant here.
    if prefix < min(height, width) and max(height, width) < 2 * min(height, width):
        assert token_grid(height * width + prefix, (height * patch, width * patch)) == (height, width)


def test_layouts_as_maps() -> None:
    maps = torch.randn(2, 5, 4, 3)
    tokens = maps.flatten(2).transpose(1, 2)
    with_prefix = torch.cat([torch.zeros(2, 2, 5), tokens], 1)
    assert Layout.NCHW.as_map(maps, (8, 6)) is maps
    assert torch.equal(Layout.NHWC.as_map(maps.permute(0, 2, 3, 1), (8, 6)), maps)
    assert torch.equal(Layout.TOKENS.as_map(tokens, (8, 6)), maps)
    assert torch.equal(Layout.TOKENS.as_map(with_prefix, (8, 6)), maps)


@pytest.mark.parametrize("prefix", [0, 1, 5, 9])
@pytest.mark.parametrize("grid", [(1, 2), (2, 2), (3, 3), (4, 2), (7, 7)])
def test_tokens_that_a_network_counts_as_none_of_the_grid_are_none(prefix: int, grid: tuple[int, int]) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.num_prefix_tokens = prefix
            self.patches = nn.Conv2d(3, 8, 4, 4)
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
            self.head = nn.Linear(8, 4)

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.patches(images).flatten(2).transpose(1, 2)
            tokens = torch.cat([tokens.new_full((len(tokens), prefix, 8), 9.0), tokens], 1)
            for block in self.blocks:
                tokens = tokens + 0 * block(tokens)
            return self.head(tokens.mean(1))

    network = Tokens()
    stages = inspect_network(network, (3, 4 * grid[0], 4 * grid[1])).stages
    assert [stage.shape for stage in stages] == [(8, *grid)] * 4
    images = torch.randn(2, 3, 4 * grid[0], 4 * grid[1])
    tokens = network.patches(images).flatten(2).transpose(1, 2)
    given = torch.cat([tokens.new_full((2, prefix, 8), 9.0), tokens], 1)
    assert torch.equal(stages[-1].as_map(given, (4 * grid[0], 4 * grid[1])), network.patches(images))


def test_stages_that_are_but_the_beginning_of_a_network_are_refused_unless_named() -> None:
    class Odd(nn.Module):
        """Its maps are a list from its second part on."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
            self.rest = nn.ModuleList(nn.Linear(4, 4) for _ in range(12))
            self.fc = nn.Linear(4, 5)
            self.feature_info = [{"module": "first"}, {"module": "second"}]

        def forward(self, images: Tensor) -> Tensor:
            vectors = self.second(self.first(images)).mean((2, 3))
            for layer in self.rest:
                vectors = layer(vectors)
            return self.fc(vectors)

    with pytest.raises(UserError, match=r"2 stages found in Odd from timm's feature_info; nearly all .* Name them"):
        inspect_network(Odd(), (3, 16, 16))
    network = Odd()
    network.stage_names = ["first", "second"]
    assert [stage.name for stage in inspect_network(network, (3, 16, 16)).stages] == ["first", "second"]
