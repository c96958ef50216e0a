"""What stays in a process of methods that it built and dropped: tensors, and what glibc's allocator keeps."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import sys
import warnings
from io import StringIO
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.counting import MIB, storage
from benchmarks.harness import write
from benchmarks.pinning import settings
from classmates import CORSD, MCL, SD, Baseline, DataSpec
from classmates.networks.building.build import build_model

BACKBONES = ("preact_resnet50", "mobilenetv3_small_100", "wide_resnet50_2_cifar", "resnet18")
ALLOCATORS = {
    "as it comes": {},
    "one arena": {"MALLOC_ARENA_MAX": "1"},
    "threshold of 1 MiB": {"MALLOC_MMAP_THRESHOLD_": str(MIB)},
}
FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


def main(out: Path, quick: bool) -> None:
    if sys.platform != "linux":
        print("building: memory is read as Linux and glibc tell it, so nothing is measured")
        return
    own = {name: value for name, value in os.environ.items() if name not in settings()}
    frames = []
    for name, variables in ALLOCATORS.items():
        environment = {**own, **variables, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "benchmarks.building", *(BACKBONES[1:2] if quick else BACKBONES)]
        told = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        frames.append(pd.read_csv(StringIO(told), index_col="name").rename(index=f"{name}, {{}}".format))
    write(
        pd.concat(frames),
        "building",
        out,
        "Baseline, MCL, CORSD and SD built on one backbone after the other, twice, each dropped before the next. MiB "
        "after each backbone: of tensors that are live, what malloc has handed out, what it keeps of what was given "
        "back, and what is resident. trim: after malloc_trim.",
    )


def build(names: list[str]) -> pd.DataFrame:
    """What this process has after each backbone."""
    warnings.simplefilter("ignore", UserWarning)  # what methods note about the data
    data = DataSpec(100, torch.arange(1000) % 100, (3, 32, 32))
    rows = {"begin": memory()}
    for turn in ("first", "second"):
        for name in names:
            for method in (Baseline, MCL, CORSD, SD):
                method(build_model(name, data.num_classes), data)
            rows[f"{name}, {turn}"] = memory()
    ctypes.CDLL(None).malloc_trim(0)
    return pd.DataFrame.from_dict({**rows, "trim": memory()}, orient="index").rename_axis("name")


def memory() -> dict[str, float]:
    """MiB of this process, by what has them."""
    heap = Heap.now()
    tensors = [one for one in gc.get_objects() if type(one) in (Tensor, nn.Parameter)]
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident is not None
    return {
        "tensors": sum({storage(one): one.untyped_storage().nbytes() for one in tensors}.values()) / MIB,
        "in_use": (heap.uordblks + heap.hblkhd) / MIB,
        "kept": heap.fordblks / MIB,
        "resident": int(resident[1]) / 1024,
    }


class Heap(ctypes.Structure):
    """glibc's ``struct mallinfo2``; hblkhd: mapped one by one, uordblks: handed out, fordblks: free but kept."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]

    @classmethod
    def now(cls) -> Heap:
        info = ctypes.CDLL(None).mallinfo2
        info.restype = cls
        return info()


if __name__ == "__main__":
    build(sys.argv[1:]).to_csv(sys.stdout)
