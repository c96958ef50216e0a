import math

import pytest

from classmates.losses.ramps import sigmoid_ramp


def test_known_values():
    assert sigmoid_ramp(0, 80) == pytest.approx(math.exp(-5))
    assert sigmoid_ramp(40, 80) == pytest.approx(math.exp(-1.25))
    assert sigmoid_ramp(80, 80) == sigmoid_ramp(300, 80) == 1
    assert sigmoid_ramp(0, 0) == 1


def test_it_only_grows():
    values = [sigmoid_ramp(epoch, 10) for epoch in range(15)]
    assert values == sorted(values)
    assert values[9] < 1
