import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from classmates._files import whole_file
from classmates._own_code import code_hash
from classmates.errors import UserError
from classmates.networks.building.build import build_model
from classmates.runs.student import (
    StudentCard,
    load_embedder,
    load_student,
    read_card,
    save_student,
    with_findings,
    write_card,
)

CARD = StudentCard(
    model="test_resnet",
    class_names=("cat", "dog", "größer < 'ä'"),
    input_shape=(1, 32, 32),
    mean=(0.5,),
    std=(0.25,),
    resize=(32, 32),
    model_args={"in_chans": 1, "drop_rate": 0.1},
)


@pytest.fixture
def network() -> nn.Module:
    """A small network whose BatchNorm has seen images, so that its buffers matter."""
    torch.manual_seed(0)
    network = build_model("test_resnet", 3, in_chans=1, drop_rate=0.1).train()
    with torch.no_grad():
        network(torch.randn(16, 1, 32, 32))
    return network


@torch.no_grad()
def logits(network: nn.Module) -> Tensor:
    return network.eval()(torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(1)))


def test_what_was_saved_is_what_is_loaded(tmp_path: Path, network: nn.Module) -> None:
    save_student(tmp_path / "run", network, CARD)
    loaded, card = load_student(str(tmp_path / "run"))
    assert card == CARD
    assert not loaded.training
    assert torch.equal(logits(loaded), logits(network))
    assert sorted(os.listdir(tmp_path / "run")) == ["student.json", "student.safetensors"]


def test_weights_that_two_layers_share_are_saved_for_each(tmp_path: Path) -> None:
    network, other = (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2))
    network[1].weight = network[0].weight
    save_student(tmp_path, network, replace(CARD, model=None))
    loaded, _ = load_student(tmp_path, network=other)
    assert torch.equal(loaded[0].weight, network[0].weight)
    assert torch.equal(loaded[1].weight, network[0].weight)


def test_timm_loads_it_without_us(tmp_path: Path, network: nn.Module) -> None:
    save_student(tmp_path, network, CARD)
    card = json.loads((tmp_path / "student.json").read_text())
    loaded = timm.create_model(
        card["model"],
        num_classes=len(card["class_names"]),
        **card["model_args"],
        checkpoint_path=tmp_path / "student.safetensors",
    )
    assert torch.equal(logits(loaded), logits(network))


def test_weights_carry_their_card(tmp_path: Path, network: nn.Module) -> None:
    save_student(tmp_path, network, CARD)
    with safetensors.safe_open(tmp_path / "student.safetensors", "pt") as file:
        assert StudentCard.from_json(file.metadata()["classmates"]) == CARD


def test_a_card_that_is_a_link_becomes_a_file_and_leaves_the_others_alone(tmp_path: Path, network: nn.Module) -> None:
    """In the Hub's cache every revision has links to files that others have too."""
    save_student(tmp_path, network, CARD)
    blob = (tmp_path / "student.json").rename(tmp_path / "blob")
    (tmp_path / "student.json").symlink_to("blob")
    write_card(tmp_path, replace(CARD, temperature=1.5))
    assert not (tmp_path / "student.json").is_symlink()
    assert read_card(tmp_path).temperature == 1.5
    assert StudentCard.from_json(blob.read_text()) == CARD


def test_card_survives_json() -> None:
    large = replace(CARD, model=None, resize=256, input_shape=(1, 224, 224))
    assert StudentCard.from_json(large.to_json()) == large


def test_cards_of_earlier_versions_are_of_bilinear_images() -> None:
    assert StudentCard.from_json(replace(CARD, interpolation="bicubic").to_json()).interpolation == "bicubic"
    earlier = {key: value for key, value in json.loads(CARD.to_json()).items() if key != "interpolation"}
    assert StudentCard.from_json(json.dumps(earlier)) == CARD
    assert CARD.interpolation == "bilinear"


NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, width):
        super().__init__(nn.Flatten(), nn.Linear(width, num_classes))
"""


@pytest.fixture
def of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A network whose class is in net.py, saved in run; the working directory is another."""
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    network = build_model("net.py:Net", 3, width=1024)
    arguments = {"in_chans": 1, "width": 1024}
    save_student(
        "run", network, replace(CARD, model="net.py:Net", model_args=arguments, code=code_hash("net.py:Net"))
    )
    monkeypatch.chdir("/")
    return network


def test_class_from_a_file_is_found_from_any_folder(tmp_path: Path, of_a_file: nn.Module) -> None:
    loaded, card = load_student(tmp_path / "run", trust_code=True)
    assert torch.equal(logits(loaded), logits(of_a_file))
    assert card.model == f"{tmp_path / 'net.py'}:Net"


@pytest.mark.parametrize("place", ["run", ".", "here"])
def test_a_file_that_was_moved_with_its_run_is_found_if_it_is_the_same(
    tmp_path: Path, of_a_file: nn.Module, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved"
    for folder in (moved, moved / "here"):
        folder.mkdir()
    (tmp_path / "run").rename(moved / "run")
    (tmp_path / "net.py").rename(moved / place / "net.py")
    if place == "here":
        monkeypatch.chdir(moved / "here")
    with pytest.raises(UserError, match=r"built by the Python file '.*net\.py', which would be run"):
        load_student(moved / "run")
    loaded, _ = load_student(moved / "run", trust_code=True)
    assert torch.equal(logits(loaded), logits(of_a_file))
    (moved / place / "net.py").write_text(NET + "\n")
    with pytest.raises(UserError, match=r"net\.py', which is not there: put net\.py, as it was in training, into"):
        load_student(moved / "run", trust_code=True)


def test_a_file_is_run_only_if_it_is_trusted(tmp_path: Path, of_a_file: nn.Module) -> None:
    (tmp_path / "net.py").write_text("open('/nowhere/at/all')")
    for load in (load_student, load_embedder):
        with pytest.raises(UserError, match=r"built by the Python file '.*net.py', which would be run.*--trust_code"):
            load(tmp_path / "run")
        with pytest.raises(UserError, match=r"net.py' has changed since it trained"):
            load(tmp_path / "run", trust_code=True)
    loaded, _ = load_student(tmp_path / "run", network=of_a_file)
    assert loaded is of_a_file


def test_an_untrusted_file_is_named_where_the_card_gives_no_class(tmp_path: Path, of_a_file: nn.Module) -> None:
    card = json.loads((tmp_path / "run" / "student.json").read_text())
    (tmp_path / "run" / "student.json").write_text(json.dumps(card | {"model": "net.py"}))
    with pytest.raises(UserError, match=r"built by the Python file 'net\.py', which would be run"):
        load_student(tmp_path / "run")


def test_a_run_is_loaded_from_a_folder_whose_name_is_not_utf8(tmp_path: Path, network: nn.Module) -> None:
    run = tmp_path / os.fsdecode(b"run \xff")
    save_student(run, network, CARD)
    assert torch.equal(logits(load_student(run)[0]), logits(network))


def test_a_card_of_an_earlier_version_has_no_hash(tmp_path: Path, of_a_file: nn.Module) -> None:
    card = json.loads((tmp_path / "run" / "student.json").read_text())
    del card["code"]
    (tmp_path / "run" / "student.json").write_text(json.dumps(card))
    (tmp_path / "net.py").write_text(NET + "\n# and a line more")
    assert load_student(tmp_path / "run", trust_code=True)[1].code is None


@pytest.mark.parametrize(
    "name", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "scriptable"]
)
def test_a_card_cannot_make_timm_load_anything(tmp_path: Path, network: nn.Module, name: str) -> None:
    save_student(tmp_path, network, CARD)
    card = json.loads((tmp_path / "student.json").read_text())
    card["model_args"] = {"in_chans": 1, name: "http://nowhere.test/x"}
    (tmp_path / "student.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=f"model_args.*{name}"):
        load_student(tmp_path)


def test_equal_students_are_equal_files_for_everybody(tmp_path: Path, network: nn.Module) -> None:
    for number in range(8):  # safetensors draws an order of its own for each
        save_student(tmp_path / str(number), network, CARD)
    files = [(tmp_path / str(number) / "student.safetensors") for number in range(8)]
    assert len({file.read_bytes() for file in files}) == 1
    assert files[0].stat().st_mode == (tmp_path / "0" / "student.json").stat().st_mode


def test_what_was_found_of_a_student_is_kept_by_a_card_that_is_written_anew(
    tmp_path: Path, network: nn.Module
) -> None:
    found = replace(CARD, temperature=1.5, exit_thresholds=(0.5, 0.75), exports={"onnx": {"file": "student.onnx"}})
    save_student(tmp_path, network, found)
    anew = with_findings(tmp_path, network, replace(CARD, interpolation="bicubic"))
    assert anew == replace(found, interpolation="bicubic")
    network.get_parameter("fc.bias").data += 1  # another student
    assert with_findings(tmp_path, network, CARD) == CARD
    assert with_findings(tmp_path / "none", network, CARD) == CARD


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, network: nn.Module, number: float) -> None:
    network.get_parameter("fc.weight").data[0, 0] = number
    save_student(tmp_path, network, CARD)
    with pytest.raises(UserError, match=r"student.safetensors' holds numbers that are not finite .*fc.weight.*--lr"):
        load_student(tmp_path)


class Tied(nn.Module):
    """Two names for one weight, which lies transposed in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.first.weight = self.second.weight = nn.Parameter(torch.randn(3, 3).T)


def test_network_object_is_loaded_into_one(tmp_path: Path) -> None:
    network, empty = Tied(), Tied()
    save_student(tmp_path, network, replace(CARD, model=None))
    with pytest.raises(UserError, match=r"network object.*load_student\(run, network=my_module\)"):
        load_student(tmp_path)
    loaded, _ = load_student(tmp_path, network=empty)
    assert loaded is empty
    assert torch.equal(loaded.first.weight, network.first.weight)
    assert loaded.first.weight is loaded.second.weight


@pytest.mark.parametrize("named", ["improved", "improved/student", "improved/student/student.safetensors"])
def test_a_student_is_found_by_its_weights_and_in_what_improve_wrote(
    tmp_path: Path, network: nn.Module, named: str
) -> None:
    (tmp_path / "improved" / "student").mkdir(parents=True)
    save_student(tmp_path / "improved" / "student", network, CARD)
    assert load_student(tmp_path / named)[1] == CARD


@pytest.mark.parametrize("missing", ["student.json", "student.safetensors"])
def test_folder_without_a_student(tmp_path: Path, network: nn.Module, missing: str) -> None:
    save_student(tmp_path, network, CARD)
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match=f"no trained student in .*{missing} is missing"):
        load_student(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", '{"model": "resn', "[]", "{}", '{"model": "test_resnet", "surprise": 1}', "\xff", '{"exports":' * 100_000],
)
def test_damaged_card(tmp_path: Path, network: nn.Module, text: str) -> None:
    save_student(tmp_path, network, CARD)
    (tmp_path / "student.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"student.json' is damaged"):
        load_student(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resize": 10**9}, "resize"),
        ({"resize": 0}, "resize"),
        ({"resize": -1}, "resize"),
        ({"resize": (0, 0)}, "resize"),
        ({"resize": (10**6, 10**6)}, "resize"),
        ({"resize": (32, 8)}, "resize"),
        ({"input_shape": (1, 10**6, 10**6)}, "input_shape"),
        ({"mean": (float("nan"),)}, "mean"),
        ({"mean": (float("inf"),)}, "mean"),
        ({"std": (float("nan"),)}, "std"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_numbers_of_a_card_that_no_training_gives_are_refused(change, words) -> None:
    with pytest.raises(ValueError, match=words):
        replace(CARD, **change)


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("trapped",)


def test_damaged_weights_and_foreign_pickles_are_refused(
    tmp_path: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_student(tmp_path, network, CARD)
    weights = tmp_path / "student.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"student.safetensors' is damaged"):
        load_student(tmp_path)
    torch.save({"weights": Trap()}, weights)
    with pytest.raises(UserError, match=r"student.safetensors' is damaged"):
        load_student(tmp_path)
    assert not (tmp_path / "trapped").exists()


def test_weights_that_do_not_fit_are_named(tmp_path: Path, network: nn.Module) -> None:
    save_student(tmp_path, network, replace(CARD, class_names=("a", "b")))
    with pytest.raises(UserError, match=r"fc.weight is \(3, \d+\), the network's is \(2, \d+\); fc.bias is \(3,\)"):
        load_student(tmp_path)
    save_student(tmp_path, network, CARD)
    with pytest.raises(UserError, match=r"network Linear: weight is missing; bias is missing; .*; and \d+ more"):
        load_student(tmp_path, network=nn.Linear(2, 2))


def test_card_is_checked_before_anything_is_trained() -> None:
    with pytest.raises(ValueError, match="number for each of 1 channels"):
        replace(CARD, mean=(0.5, 0.5))
    with pytest.raises(ValueError, match="interpolation 'cubic' is none of bilinear, bicubic"):
        replace(CARD, interpolation="cubic")
    with pytest.raises(UserError, match=r"student.json.*type is not JSON serializable"):
        replace(CARD, model_args={"act_layer": nn.GELU})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("ne")
            assert temporary.parent == path.parent
            assert path.read_text() == "old"
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]
    with whole_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]
