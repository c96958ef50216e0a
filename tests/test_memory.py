import ctypes
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from classmates._memory import highest_memory, keep_freed_memory
from classmates.contracts import Batch
from classmates.evaluation.collect import collect
from classmates.evaluation.predict import predict
from classmates.runs.student import StudentCard, save_student


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_stays():
    assert keep_freed_memory()

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(16 * 2**20)  # 64 MiB, freed at once
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    # Of the 16,384 pages that it takes; some of the times the heap has other holes, and grows.
    assert min(faults() for _ in range(20)) < 1000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_stays_however_much_it_is():
    assert keep_freed_memory()
    libc = ctypes.CDLL("libc.so.6")
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    taken = libc.malloc(ctypes.c_size_t(3 * 2**30))  # addresses alone: no page of it is touched
    end = libc.sbrk(0)
    libc.free(ctypes.c_void_p(taken))
    assert libc.sbrk(0) >= end


def a_pass(folder, network):
    images, numbers = torch.rand(4, 3, 16, 16), torch.arange(4)
    collect(lambda batch: ({"student": network(batch)}, None), [Batch(images, numbers, numbers)])


def answers(folder, network):
    card = StudentCard(None, ("a", "b", "c", "d"), (3, 16, 16), (0.5,) * 3, (0.5,) * 3, resize=16)
    save_student(folder, network.eval(), card)
    Image.new("RGB", (16, 16)).save(folder / "image.png")
    predict(folder, folder / "image.png", network=network)


@pytest.mark.parametrize(("work", "module"), [(a_pass, "collect"), (answers, "predict")])
def test_what_goes_through_images_keeps_what_their_batches_free(work, module, tiny_network, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(f"classmates.evaluation.{module}.keep_freed_memory", lambda: called.append(module))
    work(tmp_path, tiny_network())
    assert called == [module]


def test_the_highest_memory_is_known_where_the_system_does_not_tell_it_as_linux_does(monkeypatch) -> None:
    """As sandboxes do not, whose files in /proc have fewer lines."""
    monkeypatch.setattr(Path, "read_text", lambda path, *_: "VmSize:\t 100 kB\n")
    assert highest_memory() > 50


@pytest.mark.skipif(sys.platform != "linux", reason="told by Linux alone")
def test_the_highest_memory_of_a_process_is_not_that_of_its_maker() -> None:
    """But its own, also of what it has given back."""
    child = (
        "from classmates._memory import highest_memory as most; before = most(); b'x' * (100 * 2**20); "
        "print(before, most())"
    )
    maker = f"import subprocess, sys; held = b'x' * 2**31; subprocess.run([sys.executable, '-c', {child!r}])"
    told = subprocess.run([sys.executable, "-c", maker], capture_output=True, text=True, check=True).stdout
    before, after = map(float, told.split())
    assert before < 1500
    assert 90 < after - before < 200
