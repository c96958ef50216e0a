"""Photographs from class folders, tar files and parquet files into batches: images a second and core, side by side.

Everything is done in one process without workers, and what counts is the processor time of it and its threads: what
one core gives, whatever else the machine does. Libraries that are not installed are left out: webdataset, litdata,
nvidia-dali, simplejpeg, PyTurboJPEG, opencv-python.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms as usual
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from benchmarks.harness import Function, interleave, write
from benchmarks.pipeline import photographs
from classmates._memory import keep_freed_memory
from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import train_loader
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import Shuffled
from classmates.data.loading import load
from classmates.data.readers import jpeg
from classmates.data.readers.images import decode
from classmates.data.resizing import PackedRandomResizedCrop

SIZE, BATCH = 224, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU_TIME = "processor time of one process without workers"


def main(out: Path, quick: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), 64 if quick else 256)
        decoders(out, paths[:64], rounds=2 if quick else 9)
        readers(out, paths, rounds=2 if quick else 9)


def decoders(out: Path, paths: list[Path], rounds: int) -> None:
    """What decoding takes, and decoding with a random crop resized to 224 pixels."""
    contents = [path.read_bytes() for path in paths]
    kinds = dict(known_decoders())
    old, new = v2.RandomResizedCrop(SIZE), PackedRandomResizedCrop(SIZE)
    over = lambda function: lambda: deque(map(function, contents), 0)
    candidates: dict[str, Function] = {f"decode: {name}": over(function) for name, function in kinds.items()}
    for name, function in kinds.items():
        candidates[f"decode and crop: {name}"] = over(lambda content, function=function: old(function(content)))
    best = next(name for name in ("simplejpeg", "torchvision") if name in kinds)
    candidates[f"decode and packed crop: {best}"] = over(lambda content: new(kinds[best](content)))
    frame = per_core(candidates, len(contents), rounds)
    expected = transforms.pil_to_tensor(decode(paths[0], 3))
    same = {name: torch.equal(function(contents[0]), expected) for name, function in kinds.items()}
    frame["pillows_pixels"] = ["yes" if same.get(name.rpartition(": ")[2]) else "no" for name in frame.index]
    size = f"{np.mean(list(map(len, contents))) / 1000:.0f} kB"
    write(frame, "pipeline_decoders", out, f"{len(paths)} JPEGs of 500x375 pixels, {size} on average; {CPU_TIME}.")


def known_decoders() -> Iterator[tuple[str, Callable[[bytes], torch.Tensor]]]:
    """Decoders that are installed, to a tensor [C, H, W]; half the size is decoded in the DCT."""

    def of_array(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).permute(2, 0, 1)

    def pillow(content: bytes, half: bool = False) -> torch.Tensor:
        with Image.open(io.BytesIO(content)) as image:
            if half:
                image.draft("RGB", (image.width // 2, image.height // 2))
            return transforms.pil_to_tensor(image.convert("RGB"))

    yield "Pillow", pillow
    yield "Pillow, half the size", partial(pillow, half=True)
    yield (
        "torchvision",
        lambda content: decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB),
    )
    if find_spec("simplejpeg"):
        import simplejpeg

        half = {"min_height": 188, "min_width": 250, "min_factor": 1}
        yield "simplejpeg", lambda content: of_array(simplejpeg.decode_jpeg(content))
        yield "simplejpeg, half the size", lambda content: of_array(simplejpeg.decode_jpeg(content, **half))
        five = {"min_height": 224, "min_width": 224, "min_factor": 1}
        yield "simplejpeg, 5/8 of the size", lambda content: of_array(simplejpeg.decode_jpeg(content, **five))
    if find_spec("turbojpeg"):
        import turbojpeg

        turbo = turbojpeg.TurboJPEG()
        yield "PyTurboJPEG", lambda content: of_array(turbo.decode(content, pixel_format=turbojpeg.TJPF_RGB))
    if find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
        array = partial(np.frombuffer, dtype=np.uint8)
        yield "OpenCV", lambda content: of_array(cv2.imdecode(array(content), cv2.IMREAD_COLOR_RGB))


def readers(out: Path, paths: list[Path], rounds: int) -> None:
    """An epoch of normalised batches from each kind of file, by this library and by others."""
    with tempfile.TemporaryDirectory() as folder:
        folders, tars, tables = (Path(folder) / kind for kind in ("folders", "tar files", "parquet files"))
        as_folders(paths, folders)
        as_tars(paths, tars)
        candidates: dict[str, Function] = {
            "class folders: torchvision's ImageFolder and transforms": epoch(image_folder(folders))
        }
        kinds = {"class folders": folders, "tar files": tars}
        if find_spec("datasets"):
            as_parquet(paths, tables)
            kinds["parquet files"] = tables
        for kind, place in kinds.items():
            data = load(place, image_size=SIZE, val_fraction=0)
            sampler = EpochSampler(Shuffled(), data.train.labels, BATCH)
            ours = epoch(train_loader(data, sampler, Augmentation(), seed=0, num_workers=0))
            if jpeg.simplejpeg is not None:
                candidates[f"{kind}: classmates with simplejpeg"] = ours
            candidates[f"{kind}: classmates with torchvision"] = without_simplejpeg(ours)
        candidates |= {name: epoch(loader) for name, loader in others(folders, tars, Path(folder) / "chunks")}
        frame = per_core(candidates, len(paths), rounds)
    note = (
        f"An epoch of {len(paths)} JPEGs of 500x375 pixels: RandomResizedCrop to {SIZE} pixels, flip, normalised "
        f"batches of {BATCH}; {CPU_TIME}. classmates, ImageFolder and DALI read them in random order, webdataset and "
        "litdata in that of the files."
    )
    write(frame, "pipeline_readers", out, note)


def others(folders: Path, tars: Path, chunks: Path) -> Iterator[tuple[str, Iterable[object]]]:
    """The loaders of other libraries, those that are installed, each with the fastest decoder that it can have."""
    crop = v2.Compose([v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), *to_floats()])
    on_images = usual.Compose([usual.RandomResizedCrop(SIZE), usual.RandomHorizontalFlip(), *usual_floats()])
    fastest = dict(known_decoders()).get("simplejpeg") or dict(known_decoders())["torchvision"]
    urls = [str(path) for path in sorted(tars.glob("train*.tar"))]
    if find_spec("webdataset"):
        import webdataset

        plain = partial(webdataset.WebDataset, urls, shardshuffle=False)
        by_pillow = plain().decode("pil").to_tuple("jpg", "cls").map_tuple(on_images, int)
        yield "tar files: webdataset, Pillow", DataLoader(by_pillow, BATCH)
        fast = plain().to_tuple("jpg", "cls").map_tuple(lambda content: crop(fastest(content)), int)
        yield "tar files: webdataset, the fastest decoder", DataLoader(fast, BATCH)
    if find_spec("litdata"):
        yield (
            "its own files: litdata, the fastest decoder",
            litdata_loader(folders, chunks, lambda c: crop(fastest(c))),
        )
    if find_spec("nvidia") and find_spec("nvidia.dali"):
        yield "class folders: DALI on the CPU, decoding the crop alone", dali_loader(folders)


def litdata_loader(folders: Path, chunks: Path, transform: Callable[[bytes], torch.Tensor]) -> Iterable[object]:
    import litdata
    from litdata.streaming.cache import Cache

    cache = Cache(str(chunks), chunk_bytes=2**26)
    for number, path in enumerate(sorted(folders.glob("train/*/*.jpg"))):
        cache[number] = {"content": path.read_bytes(), "label": int(path.parent.name)}
    cache.done()
    cache.merge()

    class Photographs(litdata.StreamingDataset):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            item = super().__getitem__(index)
            return transform(item["content"]), item["label"]

    return litdata.StreamingDataLoader(Photographs(str(chunks)), batch_size=BATCH)


def dali_loader(folders: Path) -> Iterable[object]:
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    # Nothing ahead: what is made between two epochs would not be counted.
    ahead = {"exec_async": False, "exec_pipelined": False, "prefetch_queue_depth": 1}

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None, **ahead)
    def pipeline() -> tuple[object, object]:
        contents, labels = fn.readers.file(file_root=str(folders / "train"), random_shuffle=True, name="files")
        images = fn.decoders.image_random_crop(contents, output_type=types.RGB, random_area=[0.08, 1.0])
        images = fn.resize(images, size=[SIZE, SIZE], antialias=True)
        scale = {"mean": [255 * value for value in MEAN], "std": [255 * value for value in STD]}
        mirror = fn.random.coin_flip()
        return fn.crop_mirror_normalize(images, output_layout="CHW", mirror=mirror, **scale), labels

    return DALIGenericIterator(
        pipeline(), ["images", "labels"], reader_name="files", auto_reset=True, prepare_first_batch=False
    )


def image_folder(folders: Path) -> Iterable[object]:
    from torchvision.datasets import ImageFolder

    steps = [usual.RandomResizedCrop(SIZE), usual.RandomHorizontalFlip(), *usual_floats()]
    return DataLoader(ImageFolder(folders / "train", usual.Compose(steps)), BATCH, shuffle=True)


def to_floats() -> list[object]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]


def usual_floats() -> list[object]:
    return [usual.ToTensor(), usual.Normalize(MEAN, STD)]


def epoch(loader: Iterable[object]) -> Function:
    return lambda: deque(loader, 0)


def without_simplejpeg(function: Function) -> Function:
    def call() -> None:
        before, jpeg.simplejpeg = jpeg.simplejpeg, None
        try:
            function()
        finally:
            jpeg.simplejpeg = before

    return call


def as_folders(paths: list[Path], place: Path) -> None:
    """All are training images; a few are test images as well, as there must be some."""
    for number, path in enumerate(paths):
        for part in ("train", "test") if number < 4 else ("train",):
            (place / part / str(number % 2)).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place / part / str(number % 2))


def as_tars(paths: list[Path], place: Path) -> None:
    place.mkdir()
    for part, some in (("train-0", paths[::2]), ("train-1", paths[1::2]), ("test-0", paths[:4])):
        with tarfile.open(place / f"{part}.tar", "w") as tar:
            for number, path in enumerate(some):
                tar.add(path, f"{path.stem}.jpg")
                label = tarfile.TarInfo(f"{path.stem}.cls")
                label.size = 1
                tar.addfile(label, io.BytesIO(b"01"[number % 2 : number % 2 + 1]))


def as_parquet(paths: list[Path], place: Path) -> None:
    import datasets

    place.mkdir()
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["0", "1"]))
    for part, some in (("train", paths), ("test", paths[:4])):
        cells = [{"bytes": path.read_bytes(), "path": None} for path in some]
        labels = [number % 2 for number in range(len(some))]
        datasets.Dataset.from_dict({"image": cells, "label": labels}, features).to_parquet(place / f"{part}.parquet")


def per_core(candidates: dict[str, Function], count: int, rounds: int) -> pd.DataFrame:
    """Images a second of processor time, with one thread, as in a worker; freed memory is kept, as in training."""
    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        frame = interleave(candidates, rounds=rounds, clock=time.process_time)
    finally:
        torch.set_num_threads(threads)
    frame.insert(0, "images_per_second_and_core", count / frame["median_ms"] * 1000)
    frame["speedup"] = 1 / frame.pop("ratio")
    return frame
