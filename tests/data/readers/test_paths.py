import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from classmates.data.readers.paths import Paths

names = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in (".", "..")
)
groups = st.lists(st.lists(names, max_size=5), max_size=5)


@given(groups, st.randoms(use_true_random=False))
def test_paths_are_those_that_went_in(groups, random):
    root = Path("/photos")
    expected = [root / name for group in groups for name in group]
    paths = Paths(root, groups)
    assert len(paths) == len(expected)
    assert list(paths) == expected
    packed = os.fsencode("".join(f"{name}\0" for group in groups for name in group))
    assert list(Paths.packed(root, packed)) == expected
    indices = random.sample(range(len(expected)), len(expected) // 2)
    assert list(paths.take(torch.tensor(indices, dtype=torch.int64))) == [expected[index] for index in indices]


def test_indexing_is_that_of_a_sequence():
    paths = Paths(Path("root"), [["a/x.png", "a/y.png"], [], ["b/z.png"]])
    assert paths[-1] == Path("root/b/z.png")
    assert paths[1:] == [Path("root/a/y.png"), Path("root/b/z.png")]
    assert paths[torch.tensor(1)] == Path("root/a/y.png")
    with pytest.raises(IndexError):
        paths[3]


def test_names_that_are_no_text_survive():
    name = os.fsdecode(b"caf\xe9.png")  # Latin-1 in a file system that is UTF-8 otherwise
    assert os.fsencode(Paths(Path("/"), [[name]])[0]) == b"/caf\xe9.png"


def test_a_file_takes_few_bytes():
    groups = ([f"n{folder:08}/n{folder:08}_{file}.JPEG" for file in range(1000, 2000)] for folder in range(20))
    paths = Paths(Path("/data/imagenet/train"), groups)
    assert len(pickle.dumps(paths)) < 40 * len(paths)
    assert paths[12345] == Path("/data/imagenet/train/n00000012/n00000012_1345.JPEG")
