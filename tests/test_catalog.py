import pytest
import timm

from classmates.catalog import Catalog, methods, models
from classmates.catalog import list as catalog
from classmates.data import NAMES
from classmates.errors import UserError
from classmates.methods import CORSD, MCL, Baseline, Method


def test_methods_are_those_that_are_public():
    found = methods()
    assert {"Baseline": Baseline, "CORSD": CORSD, "MCL": MCL}.items() <= found.items()
    assert "Method" not in found
    assert "Output" not in found
    assert all(issubclass(cls, Method) for cls in found.values())


def test_everything_is_listed_with_a_line_on_it():
    found = catalog()
    assert found.names.keys() == {"methods", "models", "datasets"}
    assert found.names["methods"].keys() == methods().keys()
    assert found.names["models"].keys() == models().keys()
    assert all(line for lines in found.names.values() for line in lines.values())
    assert found.names["methods"]["MCL"].startswith("Peers contrast their outputs of a sample")
    text = str(found)
    assert max(map(len, text.splitlines())) <= 100
    assert "more than a thousand of timm" in text
    assert len(found.timm_models) == len(timm.list_models()) - len(models()) > 1000
    for name in ("MCL", "resnet32", "digits"):
        assert f"\n  {name} " in text


def test_methods_are_grouped_with_year_cost_and_needs():
    lines = str(catalog("methods")).partition("\n\n")[2].splitlines()
    heads = [line.partition(",")[0].partition(":")[0] for line in lines if line and not line.startswith(" ")]
    assert heads == [
        "Controls", "Self-distillation", "Online distillation", "Several methods at once", "With a teacher"
    ]  # fmt: skip
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert sorted(listed) == sorted(methods())
    mcl = " ".join("\n".join(lines).partition("  MCL  ")[2].partition("\n  PCL")[0].split())
    assert mcl.startswith(f"{MCL.about.year} {MCL.about.cost}x Peers contrast")
    assert mcl.endswith(f"It needs {MCL.about.needs}.")
    assert str(catalog("methods", pattern="MCL*")).count("\n\n") == 1


def test_every_line_is_a_whole_sentence():
    for kind, lines in catalog().names.items():
        for name, line in lines.items():
            assert line.endswith("."), (kind, name, line)
            assert line.count("(") == line.count(")"), (kind, name, line)
            assert not line.endswith(" al."), (kind, name, line)  # "He et al. have it" is no end


def test_our_own_models_come_first_and_timms_by_pattern():
    found = catalog("models", pattern="ResNet1*")
    assert found.names.keys() == {"models"}
    assert "resnet110" in found.names["models"]
    assert "resnet18_cifar" in found.names["models"]
    assert "resnet8" not in found.names["models"]
    assert "resnet18" in found.timm_models
    assert not set(found.timm_models) & models().keys()
    text = str(found)
    assert text.index("resnet110") < text.index("resnet18 ")


def test_a_pattern_that_nothing_fits():
    assert catalog("methods", pattern="x*") == Catalog("x*", {"methods": {}})


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("*okd*", {"MCL", "OKDDip"}), ("byot", {"SD"}), ("B*", {"BAKE", "Baseline", "BornAgain", "SD"})],
)
def test_methods_are_found_by_what_papers_call_them_too(pattern, found):
    assert catalog("methods", pattern=pattern).names["methods"].keys() == found


@pytest.mark.parametrize(
    ("pattern", "heads"),
    [
        ("mcl*", ["Methods"]),
        ("cifar*", ["Data"]),
        ("vit_tiny*", ["Models"]),
        ("d*", ["Methods", "Models", "Data"]),
        ("xyz", ["Nothing fits 'xyz'"]),
        ("", ["Methods", "Models", "Data"]),
    ],
)
def test_there_is_no_heading_with_nothing_below_it(pattern, heads):
    lines = str(catalog(pattern=pattern)).splitlines()
    found = [
        line.partition(" (")[0].partition(";")[0]
        for line in lines
        if line.startswith(("Methods (", "Models (", "Data (", "Nothing"))
    ]
    assert found == heads


def test_every_data_set_has_its_line():
    lines = catalog("datasets").names["datasets"]
    assert tuple(lines) == NAMES
    assert lines["cifar100"].startswith("CIFAR-100, 60,000 images")


def test_an_unknown_kind_is_an_error():
    with pytest.raises(UserError, match="unknown kind of thing to list 'model': did you mean 'models'"):
        catalog("model")
