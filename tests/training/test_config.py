"""Values that can work with no data are refused before the data are read."""

import pytest

from classmates.errors import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({"batch_size": size}, f"batch_size={size}: images a step, 1 or more, or auto") for size in (0, -3)),
        *(({"lr": rate}, f"lr={rate}: .* above 0") for rate in (0, 0.0, -1.0)),
        *(({"lr": rate}, f"lr.*{rate}") for rate in (float("nan"), float("inf"))),
    ],
)
@pytest.mark.parametrize("precision", ["auto", "32-true"])
def test_numbers_by_which_nothing_is_learnt_are_refused(settings, message, precision, small_train, tmp_path):
    with pytest.raises(UserError, match=message):
        small_train(data="nothing", out=tmp_path / "run", precision=precision, **settings)
    assert not (tmp_path / "run").exists()
