"""Entropy-SGD: step towards wide valleys of the loss.

Before each step, `inner_steps` steps of Langevin dynamics explore the surroundings of the weights
w, from v = m = w::

    v <- v - lr' * (dL/dv - gamma * (w - v) + noise * N(0, 1) / sqrt(lr' / 2))
    m <- average * m + (1 - average) * v

m shows where the loss is low all around. The optimiser then steps with w - m in place of the
gradient. At step t, gamma = scope * (1 + growth)^t.

Use it if solutions of the optimiser do not generalise. A step costs inner_steps + 1 passes.

Notes:
- As in the authors' code, w - m has no factor gamma. That code needs torch of 2017, so we could not
  run it for comparison. Its inner steps have Nesterov momentum, ours have none.
- All inner steps use the batch of the step. Running statistics of batch norm are those of the pass
  at w.
- The outer optimiser is the trial's; the authors use SGD with rate 1. Adam takes only the direction
  of w - m.
- List other methods that wrap the optimiser before it.

Kind: optimiser

Paper: Chaudhari et al., "Entropy-SGD: biasing gradient descent into wide valleys", ICLR 2017.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mimic_reg.methods._weights import held_buffers
from mimic_reg.methods.base import Fit, OptimizerWrapper, Regulariser, require
from mimic_reg.models.base import Model

EXCLUDES = {"sam": "each computes a step from several gradients."}


class EntropyOptimizer(OptimizerWrapper):
    """Explore before each step of the base."""

    def __init__(
        self, base: Optimizer, options: "EntropySGD", rng: torch.Generator, model: Model
    ) -> None:
        super().__init__(base)
        self.options, self.generator, self.model = options, rng, model
        self.taken = 0

    # no default: a wrapper that evaluates the closure itself cannot wrap this one
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Take one step and return the loss at w."""
        with torch.enable_grad():
            loss = closure()
        if self.options.inner_steps:
            with held_buffers(self.model):
                self._explore(closure)
        self.base.step()
        self.taken += 1
        return loss

    def _explore(self, closure: Callable[[], Any]) -> None:
        """Set each gradient to w - m; leave the parameters at w."""
        options = self.options
        moved = [p for p in self.parameters() if p.grad is not None]
        start = [p.detach().clone() for p in moved]
        means = [w.clone() for w in start]
        gamma = options.scope * (1 + options.growth) ** self.taken
        for _ in range(options.inner_steps):
            with torch.enable_grad():
                closure()
            with torch.no_grad():
                for parameter, w, mean in zip(moved, start, means, strict=True):
                    self._walk(parameter, w, gamma)
                    mean.lerp_(parameter, 1 - options.average)
        with torch.no_grad():
            for parameter, w, mean in zip(moved, start, means, strict=True):
                parameter.copy_(w)
                parameter.grad = w - mean

    def _walk(self, v: Tensor, w: Tensor, gamma: float) -> None:
        """Take one inner step."""
        assert v.grad is not None
        rate, noise = self.options.inner_rate, self.options.noise
        change = v.grad - gamma * (w - v)
        if noise:
            random = torch.empty_like(v).normal_(generator=self.generator)
            change += noise / math.sqrt(rate / 2) * random
        v.sub_(rate * change)

    def own_state(self) -> dict[str, Any]:
        """Return the number of steps, on which gamma depends."""
        return {"taken": self.taken}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        self.taken = state["taken"]


class EntropySGD(Regulariser):
    """Explore before each step.

    inner_steps: steps of Langevin dynamics before each step (the paper's L)
    inner_rate:  learning rate lr' of the inner steps
    scope:       gamma at the first step: how strongly v is drawn back to w
    growth:      growth of gamma with each step
    noise:       size of the noise (the paper's epsilon)
    average:     share of the running mean that is kept in an inner step
    """

    neutral = {"inner_steps": 0}

    def __init__(
        self,
        inner_steps: int = 20,
        inner_rate: float = 0.1,
        scope: float = 1e-4,
        growth: float = 1e-3,
        noise: float = 1e-4,
        average: float = 0.75,
    ) -> None:
        for name, rule, value, holds in (
            ("inner_steps", "at least 0", inner_steps, inner_steps >= 0),
            ("inner_rate", "above 0", inner_rate, inner_rate > 0),
            ("scope", "at least 0", scope, scope >= 0),
            ("growth", "at least 0", growth, growth >= 0),
            ("noise", "at least 0", noise, noise >= 0),
            ("average", "in [0, 1)", average, 0 <= average < 1),
        ):
            require(holds, "entropy_sgd", f"{name} must be {rule}", value)
        self.inner_steps, self.inner_rate = inner_steps, inner_rate
        self.scope, self.growth, self.noise, self.average = scope, growth, noise, average

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        return EntropyOptimizer(optimizer, self, fit.generator, self.model)


build = EntropySGD
