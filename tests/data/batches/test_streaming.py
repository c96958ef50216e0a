import os
import re
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.utils.data import get_worker_info
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as transforms

from classmates._machine import usable_cores
from classmates.data.augmentation import Augmentation
from classmates.data.batches import loaders
from classmates.data.batches.loaders import check_loading, eval_loader, train_loader
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import Shuffled, Triplets
from classmates.data.batches.streaming import use_any_core
from classmates.data.parts import ImageData, Split
from classmates.data.policies import PolicyFails
from classmates.data.readers.opening import UnreadableImage
from classmates.data.resizing import PackedRandomResizedCrop
from classmates.errors import UserError
from tests.data.batches.conftest import assert_same, differ, pixels, train


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no core affinity")
def test_workers_leave_the_core_that_openmp_has_bound_them_to(monkeypatch):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        monkeypatch.delenv("OMP_PROC_BIND", raising=False)
        use_any_core(0)
        assert os.sched_getaffinity(0) == {min(before)}  # someone else's wish
        monkeypatch.setenv("OMP_PROC_BIND", "true")
        use_any_core(0)
        assert os.sched_getaffinity(0) >= before
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no core affinity")
def test_advice_counts_the_cores_the_program_may_use_and_one_core_is_no_warning(streamed, monkeypatch, recwarn):
    monkeypatch.delenv("OMP_PROC_BIND", raising=False)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
        loader = eval_loader(streamed, streamed.test, 4, num_workers=2)
        assert "--num_workers" not in loader.advice  # there are more workers than cores already
        assert len(list(loader)) == len(loader)
    finally:
        os.sched_setaffinity(0, before)
    assert not recwarn.list
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    assert usable_cores() == os.cpu_count()


def test_workers_do_not_change_an_image_nor_do_they_miss_the_epoch(streamed):
    sampler = EpochSampler(Triplets(), streamed.train.labels, 6, seed=2)
    alone, helped = (
        train_loader(streamed, sampler, Augmentation(), seed=4, num_workers=workers) for workers in (0, 2)
    )
    for epoch in (0, 3, 0):  # the same workers live on
        sampler.set_epoch(epoch)
        assert_same(list(alone), list(helped))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_goes_while_it_is_trained_on_is_told_in_one_sentence(streamed, tmp_path, workers):
    paths = [tmp_path / f"{number}.png" for number in range(18)]
    for path, of in zip(paths, streamed.train.paths, strict=True):
        shutil.copy(of, path)
    split = replace(streamed.train, paths=tuple(paths))
    paths[7].unlink()
    with pytest.raises(UnreadableImage) as told:
        list(eval_loader(streamed, split, 4, num_workers=workers))
    assert str(told.value).startswith(f"cannot read the image {paths[7]}: ")
    assert "Traceback" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "words", ["DataLoader worker (pid 7) is killed by signal: Bus error.", "unable to allocate shared memory(shm)"]
)
def test_a_worker_that_is_lost_is_told_with_what_helps(streamed, monkeypatch, words):
    loader = eval_loader(streamed, streamed.train, 4, num_workers=0)
    for text, kind in ((words, UserError), ("another", RuntimeError)):

        def fails(self, text=text):
            raise RuntimeError(text)

        monkeypatch.setattr("classmates.data.batches.streaming._Workers.__iter__", fails)
        with pytest.raises(kind, match=re.escape(text)) as told:
            list(loader)
        assert ("--num_workers 0" in str(told.value)) is (kind is UserError)


def test_a_transform_that_fails_in_a_process_that_reads_images_is_named_with_its_error(streamed):
    def fails(images):
        if get_worker_info():
            raise RuntimeError("shared memory")
        return images

    sampler = EpochSampler(Shuffled(), streamed.train.labels, 6, seed=2)
    augmentation = Augmentation(policy=v2.Lambda(fails))
    with pytest.raises(PolicyFails) as told:
        list(train_loader(streamed, sampler, augmentation, seed=0, num_workers=1))
    assert re.fullmatch(
        r"policy Lambda fails on images of \[3, 48, 48\] in uint8: RuntimeError: shared memory \(\S+, line \d+\)",
        str(told.value),
    )


def test_a_transform_that_cannot_be_sent_to_processes_that_begin_anew_is_refused(streamed, monkeypatch):
    monkeypatch.setattr(loaders, "FORKS", False)
    augmentation = Augmentation(policy=v2.Lambda(lambda images: images))
    assert check_loading(streamed, augmentation, 0) == []
    with pytest.raises(UserError, match=r"cannot be sent to the processes that read images \(.*--num_workers 0"):
        check_loading(streamed, augmentation, 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_evaluation_from_files_takes_the_middle(streamed, interpolation):
    streamed = replace(streamed, interpolation=interpolation)
    [batch] = eval_loader(streamed, streamed.test, 100, num_workers=0)
    for image, path in zip(batch.images, streamed.test.paths, strict=True):
        resized = transforms.resize(Image.open(path), [55], InterpolationMode(interpolation))  # 48 · 256/224
        expected = transforms.pil_to_tensor(transforms.center_crop(resized, [48, 48]))
        # torchvision resizes tensors as Pillow does images, but for the rounding
        torch.testing.assert_close(pixels(image), expected.float(), atol=1.001, rtol=0)


def test_crops_of_files_keep_the_share_and_the_interpolation_asked_for(streamed, monkeypatch):
    made = []
    crop = PackedRandomResizedCrop

    def remember(*args, **options):
        made.append(crop(*args, **options))
        return made[-1]

    monkeypatch.setattr("classmates.data.batches.loaders.PackedRandomResizedCrop", remember)
    usual = train(streamed, num_workers=0)
    mild = train(replace(streamed, interpolation="bicubic"), augmentation=Augmentation(crop_scale=0.6), num_workers=0)
    assert differ(usual, mild)
    assert [each.scale for each in made] == [(0.08, 1.0), (0.6, 1.0)]
    assert [each.interpolation.value for each in made] == ["bilinear", "bicubic"]
    assert_same(usual, train(streamed, augmentation=Augmentation(crop_scale=0.08), num_workers=0))


def test_grey_files_have_one_channel(streamed):
    grey = ImageData("grey", 1, (48, 48), (0.5,), (0.2,), streamed.train, None, streamed.test)
    [batch] = eval_loader(grey, grey.test, 100, num_workers=0)
    assert batch.images.shape == (18, 1, 48, 48)
    assert train(grey, num_workers=0)[0].images.shape == (6, 1, 48, 48)


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_files_passed_over_are_not_read(streamed, num_workers, world_size):
    sampler = EpochSampler(Shuffled(), streamed.train.labels, 4, seed=1, world_size=world_size, rank=world_size - 1)
    left = list(sampler)[3:]
    wanted = {index for batch in left for index in batch}
    paths = tuple(path if i in wanted else path / "gone" for i, path in enumerate(streamed.train.paths))
    data = replace(streamed, train=Split(streamed.train.labels, paths=paths))
    loader = train_loader(data, sampler, Augmentation(), seed=0, num_workers=num_workers)
    loader.load_state_dict({"given": 3})
    assert [batch.indices.tolist() for batch in loader] == left
