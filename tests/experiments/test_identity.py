"""The identity of a run: which files of the user's own count."""

import pytest

from classmates.experiments.identity import code_version, config_hash

OWN = "from classmates import MCL\n\n\nclass Own(MCL):\n    def later(self):\n        {}\n"


def version(method="classmates.Baseline", model="resnet8"):
    return code_version({"method": {"class_path": method, "init_args": {}}, "model": model, "data": "digits"})


@pytest.mark.parametrize("imports", ["import helper", "from helper import once", "from . import helper"])
def test_files_that_a_methods_file_imports_from_its_folder_count(tmp_path, imports):
    files = {name: tmp_path / f"{name}.py" for name in ("method", "helper", "further", "other")}
    files["method"].write_text(OWN.format(imports))
    method = f"{files['method']}:Own"
    versions = [version(method)]
    for name, code in (("helper", "import further"), ("further", "import helper"), ("further", "once = 1")):
        files[name].write_text(code)
        versions.append(version(method))
    assert len({*versions}) == len(versions)
    files["other"].write_text("once = 1")
    files["further"].write_text("# a comment\nonce = 1")
    assert version(method) == versions[-1]


def test_files_that_a_method_does_not_import_do_not_count(tmp_path):
    (tmp_path / "method.py").write_text(OWN.format("import torch"))
    alone = version(f"{tmp_path}/method.py:Own")
    (tmp_path / "helper.py").write_text("once = 1")
    assert version(f"{tmp_path}/method.py:Own") == alone


def test_a_networks_name_is_no_file_even_where_a_folder_has_it(tmp_path, monkeypatch):
    settings = {"method": {"class_path": "classmates.Baseline", "init_args": {}}, "model": "resnet8"}
    monkeypatch.chdir(tmp_path)
    before = config_hash(settings)
    (tmp_path / "resnet8").mkdir()
    (tmp_path / "resnet8/student.safetensors").write_bytes(b"of a run with --out resnet8")
    assert config_hash(settings) == before
    (tmp_path / "net.py").write_text("once = 1")
    own = [config_hash({**settings, "model": "net.py:Net"})]
    (tmp_path / "net.py").write_text("twice = 22")
    own.append(config_hash({**settings, "model": "net.py:Net"}))
    assert len({before, *own}) == 3
    varied = []
    for factor in (2, 3):
        (tmp_path / "policy.py").write_text(f"def make():\n    return lambda images: images // {factor}\n")
        varied.append(config_hash({**settings, "augmentation": {"policy": f"{tmp_path}/policy.py:make"}}))
    assert len({before, *varied}) == 3


def test_files_that_a_models_file_imports_count_too(tmp_path):
    (tmp_path / "network.py").write_text("def Network():\n    import layers\n")
    versions = [version(model=f"{tmp_path}/network.py:Network")]
    for width in (1, 2):
        (tmp_path / "layers.py").write_text(f"width = {width}")
        versions.append(version(model=f"{tmp_path}/network.py:Network"))
    assert len({*versions}) == 3
