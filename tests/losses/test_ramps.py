import math

import pytest

from classmates.losses.ramps import later_generation, linear_ramp, progress, sigmoid_ramp


def test_known_values():
    assert sigmoid_ramp(0, 100, length=80) == pytest.approx(math.exp(-5))
    assert sigmoid_ramp(40, 100, length=80) == pytest.approx(math.exp(-1.25))
    assert sigmoid_ramp(80, 100, length=80) == sigmoid_ramp(300, 400, length=80) == 1
    assert [linear_ramp(epoch, 100, length=4) for epoch in (0, 1, 3, 50)] == [0.25, 0.5, 1, 1]
    assert [progress(epoch, 4) for epoch in range(4)] == [0.25, 0.5, 0.75, 1]
    assert [later_generation(epoch, 5, generations=2) for epoch in range(5)] == [0, 0, 0, 1, 1]
    assert [later_generation(epoch, 6, generations=3) for epoch in range(6)] == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("ramp", [sigmoid_ramp, linear_ramp])
def test_it_only_grows_and_a_length_of_0_is_no_ramp(ramp):
    values = [ramp(epoch, 15, length=10) for epoch in range(15)]
    assert values == sorted(values)
    assert values[8] < 1 == values[10]
    assert ramp(0, 15, length=0) == 1
