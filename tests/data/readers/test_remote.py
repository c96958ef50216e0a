import functools
import http.server
import threading

import fsspec
import pytest

from classmates.data.loading import load
from classmates.data.readers.remote import is_url, local_copy
from classmates.errors import UserError


@pytest.fixture
def bucket(tmp_path, tar):
    """Object storage in memory, with the shards of a data set."""
    storage = fsspec.filesystem("memory")
    for name, first in (("train-0.tar", 0), ("train-1.tar", 10), ("test-0.tar", 20)):
        storage.pipe(f"/bucket/pets/{name}", tar(tmp_path / "made" / name, first).read_bytes())
    storage.pipe("/bucket/pets/classnames.txt", b"cat\ndog\n")
    storage.pipe("/bucket/pets/README.md", b"about")
    yield storage
    storage.rm("/bucket", recursive=True)


def test_addresses_are_told_from_folders():
    assert [is_url(data) for data in ("s3://b/x", "gs://b", "HTTPS://x/y")] == [True] * 3
    assert [is_url(data) for data in ("hf:mnist", "a/b", "./x", "c:/x", None)] == [False] * 5


def test_shards_in_object_storage_are_a_data_set(bucket):
    data = load("memory://bucket/pets/", val_fraction=0)
    assert (data.name, data.class_names, len(data.train), len(data.test)) == ("pets", ("cat", "dog"), 20, 10)
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(20))


def test_only_what_has_changed_is_copied_again(bucket, tmp_path, tar, monkeypatch):
    copied = []
    get_file = type(bucket).get_file
    monkeypatch.setattr(
        type(bucket), "get_file", lambda self, name, *rest, **how: copied.append(name) or get_file(self, name, *rest)
    )
    folder = local_copy("memory://bucket/pets")
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
        "classnames.txt",
        "test-0.tar",
        "train-0.tar",
        "train-1.tar",
    ]
    copied.clear()
    bucket.pipe("/bucket/pets/train-1.tar", tar(tmp_path / "new.tar", 40).read_bytes())  # as long as before
    bucket.rm("/bucket/pets/test-0.tar")
    (folder / "train-0.tar").unlink()
    local_copy("memory://bucket/pets")
    assert sorted(copied) == ["/bucket/pets/train-0.tar", "/bucket/pets/train-1.tar"]
    assert (folder / "train-1.tar").read_bytes() == (tmp_path / "new.tar").read_bytes()
    assert not (folder / "test-0.tar").exists()


def test_a_copy_that_breaks_off_goes_on_later(bucket, monkeypatch):
    get_file = type(bucket).get_file

    def fail(self, name, *rest, **how):
        if name.endswith("train-1.tar"):
            raise OSError("the connection was lost")
        return get_file(self, name, *rest)

    with monkeypatch.context() as broken:
        broken.setattr(type(bucket), "get_file", fail)
        with pytest.raises(UserError, match=r"memory://bucket/pets cannot be copied to .*: the connection was lost"):
            load("memory://bucket/pets")
    assert len(load("memory://bucket/pets", val_fraction=0).train) == 20


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://bucket/nothing", r"nothing has no tar or parquet files"),
        ("nonsense://x/y", r"nonsense://x/y cannot be read: .*nonsense"),
    ],
)
def test_addresses_that_lead_nowhere_are_named(bucket, url, said):
    with pytest.raises(UserError, match=said):
        load(url)


def test_a_folder_of_a_web_server(tmp_path, tar):
    pytest.importorskip("aiohttp")
    tar(tmp_path / "pets" / "train" / "0.tar", count=20)
    tar(tmp_path / "pets" / "test" / "0.tar")
    asked = []
    noted = {"log_message": lambda self, *_: asked.append(f"{self.command} {self.path}")}
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), noted)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/pets"
        data = load(url, val_fraction=0)
        asked.clear()
        load(url, val_fraction=0)
        assert asked
        assert not [path for path in asked if path.startswith("GET") and path.endswith(".tar")]  # nothing has changed
        tar(tmp_path / "pets" / "train" / "0.tar", count=30)
        changed = load(url, val_fraction=0)
        server.shutdown()
    assert (len(data.train), len(data.test)) == (20, 10)
    assert (len(changed.train), len(changed.test)) == (30, 10)
