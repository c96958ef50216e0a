"""Every method either learns from images mixed of two classes, or says why it does not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec
from classmates.data.augmentation import Augmentation
from classmates.data.batches.mixing import mix
from classmates.errors import UserError
from classmates.methods import BAKE, CC, MCL, ONE, Baseline, Combined, DeepSupervision, LabelSmoothing, Method, TfKD
from classmates.methods.mixing import check_mixing
from classmates.tasks.classification import Classification
from tests.methods.conftest import BatchFor, Build

pytestmark = pytest.mark.filterwarnings("ignore:num_negatives")

Make = Callable[..., nn.Module]
MIXING = Augmentation(mixup=0.2, cutmix=1.0)
REFUSE = {"BAKE", "CC", "CORSD", "CRD", "CSKD", "DKD", "DLB", "MCL", "MCLBatch", "PSKD", "TfKD", "ZipfLS", "Combined"}


def test_it_is_known_which_methods_refuse(
    kind: type[Method], build: Build, tiny_network: Make, tiny_data: DataSpec
) -> None:
    method = build(kind, tiny_network(), tiny_data)
    check_mixing(method, Augmentation(erasing=0.5))
    assert kind.mixes == (kind.__name__ not in REFUSE)
    if kind.mixes:
        check_mixing(method, MIXING)
        return
    with pytest.raises(UserError, match=f"mixup=0.2 and cutmix=1: {kind.__name__} cannot be trained .*, for .*them"):
        check_mixing(method, MIXING)


def test_who_mixes_learns_from_the_targets(
    kind: type[Method], build: Build, batch_for: BatchFor, tiny_network: Make, tiny_data: DataSpec
) -> None:
    if not kind.mixes:
        return
    torch.manual_seed(0)
    method = build(kind, tiny_network(), tiny_data)
    batch = batch_for(method)
    targets = torch.rand(len(batch.labels), 4).softmax(1)
    soft, hard = (method(batch._replace(targets=given)).terms for given in (targets, None))
    by_labels = {name for name in soft if name in ("ce", "ensemble_ce", "exits")}
    assert by_labels
    assert all(not torch.allclose(soft[name], hard[name]) for name in by_labels)
    one_hot = method(batch._replace(targets=F.one_hot(batch.labels, 4).float())).terms
    assert all(torch.allclose(one_hot[name], hard[name]) for name in by_labels)
    output = method(mix(batch, 4, MIXING))
    output.total.backward()
    assert output.total.isfinite()


def test_options_that_leave_out_what_mixing_spoils(tiny_network: Make, tiny_data: DataSpec) -> None:
    check_mixing(MCL(tiny_network(), tiny_data, peers=2, beta=0), MIXING)
    check_mixing(CC(tiny_network(), tiny_data, teacher=tiny_network(), class_uniform=False), MIXING)
    check_mixing(TfKD(tiny_network(), tiny_data, teacher=tiny_network()), MIXING)
    check_mixing(BAKE(tiny_network(), tiny_data, intra=0), MIXING)
    with pytest.raises(UserError, match=r"mixup=0\.5: MCL .* memory bank .* \(beta=0\); leave it out"):
        check_mixing(MCL(tiny_network(), tiny_data, peers=2), Augmentation(mixup=0.5))


def test_a_combination_mixes_if_all_its_methods_do(tiny_network: Make, tiny_data: DataSpec) -> None:
    check_mixing(Combined(tiny_network(), tiny_data, methods=["DML", "SD"]), MIXING)
    with pytest.raises(UserError, match=r"Combined cannot be trained on .*, for what it remembers .* \(PSKD\)"):
        check_mixing(Combined(tiny_network(), tiny_data, methods=["DML", "PSKD"]), MIXING)


def test_a_method_of_ones_own_has_to_say_so(tiny_network: Make, tiny_data: DataSpec) -> None:
    class Own(Baseline):
        mixes = False

    with pytest.raises(UserError, match=r"Own cannot be trained on images .*, for it does not say"):
        check_mixing(Own(tiny_network(), tiny_data), MIXING)


@pytest.mark.parametrize("own", [LabelSmoothing, ONE, DeepSupervision])
def test_class_weights_reach_cross_entropies_of_methods(
    own: type[Method], build: Build, tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch
) -> None:
    torch.manual_seed(0)
    method = build(own, tiny_network(), tiny_data).eval()
    plain = method(tiny_batch).terms
    method.task = Classification(class_weights=(1.0, 1.0, 1.0, 1.0))
    same = method(tiny_batch).terms
    method.task = replace(method.task, class_weights=(5.0, 0.1, 0.1, 0.1))
    weighted = method(tiny_batch).terms
    for name in {"ce", "ensemble_ce", "exits"} & plain.keys():
        torch.testing.assert_close(same[name], plain[name])
        assert not torch.allclose(weighted[name], plain[name])
