import copy
from dataclasses import replace

import pytest
import timm
import torch
from torch import Tensor, nn

import classmates.models  # noqa: F401
from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.networks.building.teacher import Teacher

DATA = DataSpec(5, torch.arange(20) % 5, (3, 16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network(name: str = "resnet8", num_classes: int = 5, in_chans: int = 3) -> nn.Module:
    """Some batches old, so that its BatchNorm knows other numbers than a fresh one's."""
    made = timm.create_model(name, num_classes=num_classes, in_chans=in_chans)
    with torch.no_grad():
        for _ in range(3):
            made(torch.randn(8, in_chans, 16, 16) * 2 + 1)
    return made


def test_its_output_has_its_own_stages() -> None:
    output = Teacher(network("resnet14"), DATA)(IMAGES)
    assert [tuple(stage.shape) for stage in output.stages] == [(4, 16, 16, 16), (4, 32, 8, 8), (4, 64, 4, 4)]
    assert output.embedding.shape == (4, 64)
    torch.testing.assert_close(output.embedding, output.stages[-1].mean((2, 3)))


def test_nothing_that_is_done_to_its_holder_changes_it() -> None:
    holder = nn.ModuleDict({"teacher": Teacher(network(), DATA), "student": network()})
    teacher = holder["teacher"]
    before = copy.deepcopy(teacher.network.state_dict())
    expected = teacher(IMAGES).logits
    optimizer = torch.optim.SGD(holder.parameters(), lr=1.0, weight_decay=0.5)
    holder.train().requires_grad_(True)
    for _ in range(2):
        output = teacher(IMAGES)
        assert not output.logits.requires_grad
        assert not any(stage.requires_grad for stage in output.stages)
        (holder["student"](IMAGES) - output.logits).square().sum().backward()
        optimizer.step()
    assert not any(module.training for module in teacher.network.modules())
    assert all(torch.equal(value, before[name]) for name, value in teacher.network.state_dict().items())
    assert torch.equal(teacher(IMAGES).logits, expected)


def test_it_is_in_no_checkpoint_and_no_optimiser() -> None:
    holder = nn.ModuleDict({"teacher": Teacher(network(), DATA), "student": network()})
    assert all(name.startswith("student.") for name in holder.state_dict())
    assert len(list(holder.parameters())) == len(list(holder["student"].parameters()))
    without = nn.ModuleDict({"student": network()})
    without.load_state_dict(holder.state_dict())  # strict, both ways
    holder.load_state_dict(without.state_dict())


def test_it_moves_with_its_holder() -> None:
    holder = nn.ModuleDict({"teacher": Teacher(network(), DATA)}).to(torch.float64)
    assert holder["teacher"](IMAGES.double()).logits.dtype == torch.float64
    assert {parameter.device.type for parameter in holder.to("meta")["teacher"].network.parameters()} == {"meta"}


def test_a_copy_of_its_holder_has_a_teacher_of_its_own() -> None:
    teacher = Teacher(network(), DATA)
    twin = copy.deepcopy(teacher).to(torch.float64)
    assert next(teacher.network.parameters()).dtype == torch.float32
    torch.testing.assert_close(twin(IMAGES.double()).logits.float(), teacher(IMAGES).logits, rtol=1e-4, atol=1e-4)


def named(*names: str) -> DataSpec:
    return replace(DATA, class_names=names)


@pytest.mark.parametrize(
    ("of_teacher", "of_data", "order"),
    [
        ("abcde", "abcde", [0, 1, 2, 3, 4]),
        ("edabc", "abcde", [2, 3, 4, 1, 0]),
        ("01234", "abcde", [0, 1, 2, 3, 4]),  # of images whose classes had no names
        ("abcde", "01234", [0, 1, 2, 3, 4]),
        ("43210", "01234", [0, 1, 2, 3, 4]),
        (["cafe\u0301", *"bcde"], ["b", "caf\u00e9", *"cde"], [1, 0, 2, 3, 4]),  # accents apart, and composed
        (None, "abcde", [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("cache", [False, True])
def test_logits_are_those_of_the_classes_by_name(of_teacher, of_data, order, cache) -> None:
    trained = network()
    data = replace(named(*of_data), augmented=not cache)
    teacher = Teacher(trained, data, class_names=of_teacher, cache=cache)
    expected = Teacher(copy.deepcopy(trained), DATA)(IMAGES).logits[:, order]
    assert torch.equal(teacher(IMAGES).logits, expected)
    batch = Batch(IMAGES, DATA.labels[:4], torch.arange(4))
    assert torch.equal(teacher.outputs(batch).logits, expected)
    assert [note for note in teacher.notes if "in another order" in note] == (
        ["teacher 'given' has the classes of the data in another order: its logits are taken by their names"]
        if order != sorted(order)
        else []
    )


def test_a_teacher_of_other_classes_by_name_has_no_logits_for_these() -> None:
    data = named(*"abcdz")
    with pytest.raises(
        UserError, match="'given' was trained on other classes: it does not know 'z': train a teacher"
    ):
        Teacher(network(), data, class_names="abcde")
    teacher = Teacher(network(), data, class_names="abcde", logits=False)
    assert not teacher.has_logits
    assert teacher(IMAGES).logits.shape == (4, 0)
    assert teacher.notes == [
        "teacher 'given' was trained on other classes: it does not know 'z': it teaches by its embeddings and maps"
    ]


def batch_of(indices: list[int]) -> Batch:
    """The images that these samples always have."""
    every = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return Batch(every[indices], DATA.labels[indices], torch.tensor(indices))


def test_a_teacher_with_a_cache_runs_once_for_each_sample() -> None:
    torch.manual_seed(0)
    trained = network()
    plain = Teacher(copy.deepcopy(trained), DATA)
    asked = []
    teacher = Teacher(trained, replace(DATA, augmented=False), cache=True)
    teacher.network.register_forward_hook(lambda *call: asked.append(len(call[1][0])))
    halves = [list(range(0, 20, 2)), list(range(1, 20, 2))]
    for indices in [*halves, *halves, [3, 3, 0, 19]]:
        teacher.check_cache()
        answers, expected = teacher.outputs(batch_of(indices)), plain(batch_of(indices).images)
        torch.testing.assert_close(answers.logits, expected.logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(answers.embedding, expected.embedding, rtol=1e-4, atol=1e-5)
    assert asked == [10, 10]
    assert not teacher.state_dict()


def test_what_is_not_known_yet_is_asked_for() -> None:
    teacher = Teacher(network(), replace(DATA, augmented=False), cache=True)
    teacher.outputs(batch_of([0, 1, 2]))
    torch.testing.assert_close(teacher.outputs(batch_of([3, 4])).logits, teacher(batch_of([3, 4]).images).logits)


def test_samples_that_come_again_are_no_others() -> None:
    teacher = Teacher(network(), replace(DATA, augmented=False), cache=True)
    first, second = list(range(10)), list(range(10, 20))
    for indices, known in [(first, False), (first, False), (second, True)]:
        teacher.outputs(batch_of(indices))
        teacher.check_cache()
        assert teacher.knows_all is known


def test_what_keeps_no_outputs_knows_none() -> None:
    teacher = Teacher(network(), DATA)
    teacher.check_cache()
    assert not teacher.knows_all


def test_nothing_is_cached_outside_training() -> None:
    teacher = Teacher(network(), replace(DATA, augmented=False), cache=True).eval()
    teacher.outputs(batch_of(list(range(20))))
    assert not teacher.known.any()
    teacher.train().outputs(batch_of(list(range(20))))
    assert teacher.known.all()


def test_all_processes_batches_are_cached(monkeypatch) -> None:
    """The other process sees the other half, and sample 4, which both see, as the higher rank's."""
    teacher = Teacher(network(), replace(DATA, augmented=False), cache=True)
    theirs = torch.tensor([4, *range(10, 19)])
    gathered = iter([theirs, torch.full((10, 5), 7.0), torch.full((10, 64), 8.0)])
    monkeypatch.setattr("classmates.networks.building.teacher.gather", lambda own: torch.cat([own, next(gathered)]))
    own = teacher.outputs(batch_of(list(range(10))))
    assert teacher.known.nonzero()[:, 0].tolist() == list(range(19))
    assert (teacher.logits[theirs] == 7).all()
    assert (teacher.embeddings[theirs] == 8).all()
    torch.testing.assert_close(teacher.logits[5:10], own.logits[5:])


def test_a_teacher_without_memory_holds_none() -> None:
    teacher = Teacher(network(), DATA)
    answers = teacher.outputs(batch_of([0, 1]))
    torch.testing.assert_close(answers.logits, teacher(batch_of([0, 1]).images).logits)
    assert sum(buffer.numel() for buffer in (teacher.logits, teacher.embeddings, teacher.known)) == 0


def test_augmented_images_cannot_be_cached() -> None:
    with pytest.raises(UserError, match=r"augmented.*crop_padding 0"):
        Teacher(network(), DATA, cache=True)


def test_its_own_normalisation_is_restored() -> None:
    trained = network()
    teacher = Teacher(trained, DATA, normalisation=((0.1, 0.2, 0.3), (0.5, 0.4, 0.2)))
    pixels = torch.rand(4, 3, 16, 16)

    def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
        return (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)

    own = trained(normalised((0.1, 0.2, 0.3), (0.5, 0.4, 0.2)))
    torch.testing.assert_close(teacher(normalised(DATA.mean, DATA.std)).logits, own, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="teacher 'wide' tells 7 classes apart"):
        Teacher(network(num_classes=7), DATA, name="wide")
