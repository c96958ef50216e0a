import torch

from benchmarks.costs import largest_costs


def test_the_largest_costs_of_a_product_and_little_else() -> None:
    square = torch.rand(512, 512)
    costs = largest_costs(lambda: (square @ square).add_(1).zero_())
    assert costs[0]["operator"] == "aten::mm"
    shares = [float(str(cost["share"])) for cost in costs]
    assert shares == sorted(shares, reverse=True)
    assert 0.5 < shares[0] < sum(shares) <= 1
