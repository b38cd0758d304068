"""ITPS by rank: it selects the share that it is told, whatever the scale of the gradients."""

import pytest
import torch
from torch.optim import SGD, Adam

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.itps_rank import RENEWED, RankOptimizer, rank_bound
from tests.methods.test_itps import parameter, run

CONTRACT = {"share": 0.3}


def test_the_bound_is_the_smallest_of_the_largest():
    accounts = [torch.tensor([[1.0, -4.0], [0.5, 3.0]]), torch.tensor([-2.0, 0.0])]
    assert [rank_bound(accounts, share) for share in (0.01, 0.34, 0.5)] == [4.0, 3.0, 2.0]
    assert 0 < rank_bound([torch.zeros(3)], 0.5) < 1e-30  # what never had a gradient stays out


def test_only_the_largest_move_at_every_scale_of_gradients():
    for scale in (1e-4, 1.0, 1e4):
        p = parameter(0.0, 0.0, 0.0, 0.0)
        optimizer = RankOptimizer(SGD([p], lr=1.0), share=0.5)
        p.grad = scale * torch.tensor([1.0, -3.0, 2.0, 0.5])
        optimizer.step()
        assert p.tolist() == pytest.approx([0.0, 3 * scale, -2 * scale, 0.0])


def test_the_bound_is_renewed_after_some_steps():
    p = parameter(0.0, 0.0)
    optimizer = RankOptimizer(SGD([p], lr=1.0), share=0.5)
    for step in range(RENEWED + 1):
        p.grad = torch.tensor([1.0, 2.0])
        optimizer.step()
        assert optimizer.high == (2.0 if step < RENEWED else 2.0 * (RENEWED + 1))
    assert [where.tolist() for where in optimizer.selected_now()] == [[False, True]]


def test_a_share_of_1_equals_the_base():
    wrapped, _ = run(lambda p: RankOptimizer(Adam(p, lr=0.01), share=1.0), 20)
    plain, _ = run(lambda p: Adam(p, lr=0.01), 20)
    assert all(torch.equal(a, b) for a, b in zip(wrapped, plain, strict=True))


@pytest.mark.parametrize("share", [0.0, 1.5, -0.1])
def test_impossible_shares_are_refused(share):
    with pytest.raises(InputError, match="share must be above 0 and at most 1, got"):
        methods.create("itps_rank", share=share)
