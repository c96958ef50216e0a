"""Classes in files of the user's own."""

from classmates._own_code import is_file_name


def test_file_names_are_told_from_timm_names() -> None:
    assert [is_file_name(name) for name in ("net.py:Net", "a/b.py", "resnet18.a1_in1k", "resnet32")] == [
        True,
        True,
        False,
        False,
    ]
