"""Policies of torchvision, and transforms of the user's own."""

import pickle
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from classmates.data.augmentation import Augmentation
from classmates.data.policies import (
    IMAGES_A_DRAW,
    POLICIES,
    FromFile,
    OwnPolicy,
    PolicyFails,
    apply_policy,
    check_own,
)
from classmates.errors import UserError
from tests.data.test_augmentation import random_images


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_policy_draws_by_place_whatever_the_batch(name, channels):
    images = random_images(32, 12, 12, channels)
    policy = Augmentation(policy=name).make_policy(small=True)
    places = torch.arange(32)
    before = torch.get_rng_state()
    whole = apply_policy(policy, images, places, 3, 1)
    assert torch.equal(before, torch.get_rng_state())
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8
    for first in (0, 1):  # every second image, as one of two processes has them; cut at an odd place
        mine = places[first::2]
        parts = [apply_policy(policy, images[part], part, 3, 1) for part in (mine[:5], mine[5:])]
        assert torch.equal(torch.cat(parts), whole[mine])
    assert not torch.equal(whole, apply_policy(policy, images, places, 3, 2))
    assert not torch.equal(whole, apply_policy(policy, images, places, 4, 1))


def test_a_policy_treats_neighbours_alike_and_others_not():
    image = random_images(1, 12, 12, 3)
    policy = v2.RandomRotation(180)
    changed = apply_policy(policy, image.expand(3 * IMAGES_A_DRAW, -1, -1, -1), torch.arange(3 * IMAGES_A_DRAW), 0, 0)
    groups = changed.split(IMAGES_A_DRAW)
    assert all(torch.equal(group, group[:1].expand_as(group)) for group in groups)
    assert len(torch.stack([group[0] for group in groups]).unique(dim=0)) == 3


def test_policies_are_torchvisions():
    assert Augmentation().make_policy(small=True) is None
    made = Augmentation(policy="RandAugment", fill=128).make_policy(small=False)
    assert isinstance(made, v2.RandAugment)
    assert (made.num_ops, made.magnitude, made.fill) == (2, 9, 128)
    policies = [Augmentation(policy="AutoAugment").make_policy(small=small).policy for small in (True, False)]
    assert policies == [v2.AutoAugmentPolicy.CIFAR10, v2.AutoAugmentPolicy.IMAGENET]


OWN = """
import torch
from torchvision.transforms import v2

def darker():
    return v2.Lambda(lambda images: images // 2)

class Noise:
    def __call__(self, images):
        return images ^ torch.randint(2, images.shape, dtype=torch.uint8)

class NeedsMore(Noise):
    def __init__(self, strength):
        self.strength = strength

def number():
    return 3

def floats():
    return v2.ToDtype(torch.float32, scale=True)

def smaller():
    return v2.CenterCrop(4)

def array():
    return lambda images: images.numpy()

def broken():
    return v2.Lambda(lambda images: images @ images)

def normalised():
    return v2.Normalize([0.5], [0.5])

def ends():
    def transform(images):
        raise SystemExit("enough")
    return transform

def flat():
    return v2.Lambda(lambda images: 255 - images.view(-1))

def sometimes():
    return v2.RandomApply([v2.ToDtype(torch.float32, scale=True)], p=0.3)

def inverted(images):
    return 255 - images

def a_class():
    return v2.RandomInvert

already = v2.Compose([v2.Lambda(lambda images: 255 - images)])
"""


@pytest.fixture
def own(tmp_path):
    """Names what is in a file of the user's own."""
    (tmp_path / "own.py").write_text(OWN)
    return lambda name: f"{tmp_path / 'own.py'}:{name}"


@pytest.mark.parametrize("small", [True, False])
def test_a_transform_of_ones_own_is_named_by_its_file(own, small):
    images = random_images(5, 6, 6, 3)
    policy = Augmentation(policy=own("darker")).make_policy(small=small)
    assert torch.equal(apply_policy(policy, images, torch.arange(5), 0, 0), images // 2)
    for whole in (v2.Lambda(inverted), own("already")):
        policy = Augmentation(policy=whole).make_policy(small=small)
        assert torch.equal(apply_policy(policy, images, torch.arange(5), 0, 0), 255 - images)


def inverted(images):
    return 255 - images


def test_a_transform_stays_as_its_owner_has_it():
    mine = v2.RandomApply([v2.Lambda(inverted)])
    mine.register_buffer("mean", torch.zeros(3))
    Augmentation(policy=mine).make_policy(small=True).to("meta")
    assert mine.mean.device.type == "cpu"


class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("by", torch.tensor(7, dtype=torch.uint8))

    def forward(self, images):
        return images + self.by


def test_it_is_tried_where_the_images_will_be():
    meta = torch.device("meta")
    check_own(OwnPolicy(Shift(), "policy Shift"), (8, 3, 6, 5), meta)
    back = OwnPolicy(v2.Lambda(lambda images: torch.empty_like(images, device="cpu")), "policy Lambda")
    check_own(back, (8, 3, 6, 5))
    with pytest.raises(PolicyFails, match=r"makes images of \[8, 3, 6, 5\] in uint8 of images .* on meta; it"):
        check_own(back, (8, 3, 6, 5), meta)


def test_a_file_that_draws_or_seeds_leaves_the_programs_numbers_and_draws_the_same_each_time(tmp_path):
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torchvision.transforms import v2\ntorch.manual_seed(42)\n"
        "def make():\n    table = torch.randint(256, (1,), dtype=torch.uint8)\n"
        "    return v2.Lambda(lambda images: images ^ table)"
    )
    torch.manual_seed(1)
    before = torch.get_rng_state()
    made = [FromFile(f"{tmp_path}/own.py:make")(torch.zeros(4, dtype=torch.uint8)) for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(*made)


def test_what_it_draws_depends_on_seed_epoch_and_place_alone(own):
    policy, places = FromFile(own("Noise")), torch.arange(16)
    images = random_images(16, 6, 6, 1)
    before = torch.get_rng_state()
    first = apply_policy(policy, images, places, 0, 0)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, apply_policy(policy, images, places, 0, 0))
    assert torch.equal(first[8:], apply_policy(policy, images[8:], places[8:], 0, 0))
    assert not torch.equal(first, images)
    assert not torch.equal(first, apply_policy(policy, images, places, 0, 1))
    assert not torch.equal(first, apply_policy(policy, images, places, 1, 0))


def test_it_goes_to_processes_that_have_not_run_the_file(own):
    read = "import pickle, sys, torch; print(pickle.load(sys.stdin.buffer)(torch.tensor([8])).item())"
    sent = pickle.dumps(FromFile(own("darker")))
    assert subprocess.run([sys.executable, "-c", read], input=sent, capture_output=True, check=True).stdout == b"4\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "unknown class or function in .*own.py 'none'"),
        ("NeedsMore", r"own.py:NeedsMore' is called without arguments, which fails: TypeError: .*'strength'"),
        ("number", "own.py:number' is called without arguments and returns a int, but it is to return"),
        ("a_class", "own.py:a_class' is called without arguments and returns the class RandomInvert, but"),
        (
            "inverted",
            r"own.py:inverted' takes images, but is called without arguments, to make a transform: if it is one "
            r"itself, write a function that returns it \('def make\(\): return inverted'\)",
        ),
    ],
)
def test_what_makes_no_transform_is_refused(own, name, message):
    with pytest.raises(UserError, match=message):
        Augmentation(policy=own(name)).make_policy(small=True)


@pytest.mark.parametrize("shape", [(8, 3, 6, 5), (3, 6, 5)])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "floats",
            r"own.py:floats' makes images of \[.*3, 6, 5\] in float32 of images of \[.*\] in uint8; it is to",
        ),
        ("smaller", r"own.py:smaller' makes images of \[.*3, 4, 4\] in uint8 of images"),
        ("array", "own.py:array' makes ndarray of images"),
        ("broken", r"own.py:broken' fails on images of \[.*3, 6, 5\] in uint8: RuntimeError: .*\(own.py, line \d+\)"),
        ("normalised", r"own.py:normalised' fails on .*: TypeError: [^(]*$"),
        ("ends", r"own.py:ends' fails on .*: SystemExit: enough \(own.py, line \d+\)"),
        ("flat", r"own.py:flat' fails on .*: RuntimeError: view size is not compatible .*\(own.py, line \d+\)"),
        ("sometimes", "own.py:sometimes' makes images of .* in float32"),
    ],
)
def test_what_does_not_return_images_as_it_got_them_is_refused(own, shape, name, message):
    with pytest.raises(UserError, match=message):
        check_own(FromFile(own(name)), shape)


def test_what_a_transform_does_later_is_looked_at_too():
    calls = []

    def worse(images):
        calls.append(images)
        return images if len(calls) < 3 else images.float()

    images = random_images(24, 6, 6, 1)
    with pytest.raises(PolicyFails, match=r"policy Lambda makes images of \[8, 1, 6, 6\] in float32"):
        apply_policy(OwnPolicy(v2.Lambda(worse), "policy Lambda"), images, torch.arange(24), 0, 0)


def test_an_object_that_cannot_be_copied_is_refused():
    mine = v2.Identity()
    mine.lock = threading.Lock()
    with pytest.raises(UserError, match=r"policy Identity cannot be copied \(cannot pickle .*FILE.py:NAME"):
        Augmentation(policy=mine).make_policy(small=True)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("own:make", "unknown policy 'own:make'.*FILE.py:NAME"),
        ("<ColorJitter>", "policy '<ColorJitter>' was an object of Python, which no file keeps"),
        (v2.RandomInvert, r"policy is the class RandomInvert; call it: RandomInvert\(\.\.\.\)"),
        (inverted, "policy is a function; give a transform of torchvision.transforms.v2, whose Lambda"),
    ],
)
def test_what_is_no_policy_is_refused(policy, message):
    with pytest.raises(UserError, match=message):
        Augmentation(policy=policy)


def test_a_transform_that_returns_images_as_it_got_them_is_taken_and_draws_nothing_of_the_programs(own):
    before = torch.get_rng_state()
    for name in ("darker", "Noise"):
        check_own(FromFile(own(name)), (8, 3, 6, 5))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.gpu
def test_draws_on_a_gpu_depend_on_seed_epoch_and_place_alone():
    images = random_images(16, 6, 6, 3).cuda()
    noise = OwnPolicy(v2.Lambda(lambda images: images ^ torch.randint_like(images, 2)), "policy Lambda")
    before = torch.cuda.get_rng_state()
    first, again, other = (apply_policy(noise, images, torch.arange(16), 0, epoch) for epoch in (0, 0, 1))
    assert torch.equal(before, torch.cuda.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
