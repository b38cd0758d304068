"""SAM by hand, and against another implementation of it."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.sam import SAMOptimizer
from tests.methods.fits import make_fit
from tests.networks import create

CONTRACT = {"rho": 0.05}


def wrapped(base, rho=0.05, model=None):
    return SAMOptimizer(base, rho, torch.Generator(), model or torch.nn.Identity())


def test_the_gradient_is_that_of_a_worse_place():
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    optimizer = wrapped(torch.optim.SGD([w], lr=1.0))

    def closure():
        optimizer.zero_grad()
        loss = w.square().sum() / 2
        loss.backward()
        return loss.detach()

    assert optimizer.step(closure) == 12.5  # the loss at w
    assert w.grad.tolist() == pytest.approx([3.03, 4.04])
    assert w.tolist() == pytest.approx([-0.03, -0.04])


def test_another_implementation_takes_the_same_steps():
    from pytorch_optimizer import SAM as OTHER  # half a second

    nets = [torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))]
    nets.append(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)))
    nets[1].load_state_dict(nets[0].state_dict())
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    ours = wrapped(torch.optim.Adam(nets[0].parameters(), lr=0.01), 0.5)
    theirs = OTHER(nets[1].parameters(), torch.optim.Adam, rho=0.5, lr=0.01)

    def closure(net, optimizer):
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        return loss

    for _ in range(5):
        ours.step(lambda: closure(nets[0], ours))
        closure(nets[1], theirs)
        theirs.step(lambda: closure(nets[1], theirs))
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_both_passes_draw_the_same_and_statistics_count_once():
    generator, norm = torch.Generator().manual_seed(0), torch.nn.BatchNorm1d(2)
    w = torch.ones(4, 2, requires_grad=True)
    optimizer = SAMOptimizer(torch.optim.SGD([w], lr=0.1), 0.05, generator, norm)
    drawn = []

    def closure():
        optimizer.zero_grad()
        drawn.append(torch.rand(4, 2, generator=generator))
        loss = norm(w * drawn[-1]).square().sum() + (w * drawn[-1]).sum()
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    assert torch.equal(*drawn)
    assert norm.num_batches_tracked == 1
    optimizer.step(closure)
    assert not torch.equal(drawn[1], drawn[2])


def test_methods_that_edit_gradients_must_come_before_it():
    model, fit = create("lstm", units=2), make_fit()
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    right = methods.compose(["itps", "sam"])
    right.prepare(model, fit)
    right.optimizer(adam, fit)
    wrong = methods.compose(["sam", "itps"])
    wrong.prepare(model, fit)
    with pytest.raises(InputError, match="SAMOptimizer evaluates its closure itself"):
        wrong.optimizer(adam, fit)


def test_a_negative_radius_is_refused():
    with pytest.raises(InputError, match="rho must be at least 0, got -1"):
        methods.create("sam", rho=-1)
