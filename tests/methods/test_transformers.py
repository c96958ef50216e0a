"""Every method on transformers: stages cut from a ViT's row of blocks, and Swin's own."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from classmates.contracts import Batch, DataSpec
from classmates.data.batches.samplers import EpochSampler
from classmates.methods import CORSD, MCL, SD, Combined, Method
from tests.methods.conftest import Build, with_views

pytestmark = pytest.mark.filterwarnings("ignore:num_negatives")

DATA = DataSpec(4, torch.arange(48) % 4, (3, 32, 32))


def vit() -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224", num_classes=4, img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=2
    )


def swin() -> nn.Module:
    return timm.create_model(
        "swin_tiny_patch4_window7_224",
        num_classes=4,
        img_size=32,
        patch_size=2,
        window_size=4,
        embed_dim=12,
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 2, 4),
    )


def resnet() -> nn.Module:
    return timm.create_model("resnet8", num_classes=4)


def batch_for(method: Method) -> Batch:
    indices = torch.tensor(next(iter(EpochSampler(method.sampling, DATA.labels, 24))))
    images = torch.randn(48, *DATA.input_shape, generator=torch.Generator().manual_seed(0))
    return with_views(Batch(images[indices], DATA.labels[indices], indices), method)


@pytest.mark.parametrize("make", [vit, swin])
def test_every_term_is_finite_and_teaches_the_whole_student(
    make: Callable[[], nn.Module], kind: type[Method], build: Build
) -> None:
    torch.manual_seed(0)
    method = build(kind, make(), DATA, teacher=make())
    output = method(batch_for(method))
    first = next(parameter for parameter in method.networks.student.parameters() if parameter.ndim > 1)
    for name, term in output.terms.items():
        (gradient,) = torch.autograd.grad(term, first, retain_graph=True)
        assert term.isfinite(), name
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


@pytest.mark.parametrize("make", [vit, swin])
@pytest.mark.parametrize("trained", [CORSD, MCL, SD, Combined])
def test_training_lowers_the_loss(make: Callable[[], nn.Module], trained: type[Method], build: Build) -> None:
    torch.manual_seed(0)
    method = build(trained, make(), DATA)
    batch = batch_for(method)
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    totals = []
    for _ in range(6):
        total = method(batch).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert sum(totals[-2:]) < 0.95 * sum(totals[:2])


def test_a_transformer_is_a_peer_by_its_name_at_the_students_size() -> None:
    method = MCL(resnet(), DATA, peers=2, share="nothing", peer_models=["test_vit"])
    assert method.networks.architectures[0].stages[0].shape == (64, 2, 2)
    assert method(batch_for(method)).total.isfinite()


@pytest.mark.parametrize(("student", "helper"), [(vit, resnet), (resnet, vit)])
def test_a_transformer_and_a_convolutional_network_contrast_with_each_other(
    student: Callable[[], nn.Module], helper: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(0)
    networks = helper(), student()
    method = MCL(networks[1], DATA, peers=2, share="nothing", peer_models=[networks[0]])
    terms = method(batch_for(method)).terms
    firsts = [next(parameter for parameter in one.parameters() if parameter.ndim > 1) for one in networks]
    contrasts = torch.autograd.grad(terms["contrast"], firsts, retain_graph=True)
    assert all(gradient.any() for gradient in contrasts)
    taught, untaught = torch.autograd.grad(terms["distillation"], firsts[::-1])
    assert taught.any()
    assert not untaught.any()
