"""Entropy-SGD: steps towards wide valleys of the loss: Chaudhari et al., ICLR 2017.

Before each step, `inner_steps` steps of Langevin dynamics explore the surroundings of w, from
v = w on: v <- v - lr' (dL/dv - gamma (w - v) + noise * N(0, 1) / sqrt(lr' / 2)). Their running mean
m <- average * m + (1 - average) * v, from m = w on, shows where the loss is low all around. The
optimiser then steps with w - m in place of the gradient. gamma = scope * (1 + growth)^t at step t.

Rulings: no factor gamma before w - m, as in the authors' code; that code needs a torch of 2017, so
it could not be run beside this. Its inner steps have Nesterov momentum, these have none. All inner
steps see the batch of the step. The optimiser that steps is the trial's own, where the authors use
SGD with the rate 1; Adam takes from w - m the direction only. Running statistics of batch norm are
those of the pass at w. Costs inner_steps + 1 passes a step. Other methods that wrap the optimiser
stand before it in the list.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mimic_reg.methods._weights import held_buffers
from mimic_reg.methods.base import Fit, OptimizerWrapper, Options, Regulariser, require
from mimic_reg.models.base import Model

EXCLUDES = {"sam": "each makes a step of several gradients of its own."}


@final
class EntropyOptimizer(OptimizerWrapper):
    """Explores before each step of the base."""

    def __init__(
        self, base: Optimizer, options: dict[str, float], rng: torch.Generator, model: nn.Module
    ) -> None:
        super().__init__(base)
        self.inner_steps, self.inner_rate = int(options["inner_steps"]), options["inner_rate"]
        self.average, self.noise = options["average"], options["noise"]
        self.scope, self.growth = options["scope"], options["growth"]
        self.generator, self.model = rng, model
        self.taken = 0

    # no default: a wrapper that evaluates the closure itself cannot stand around this one
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Take one step and return the loss at w."""
        with torch.enable_grad():
            loss = closure()
        if self.inner_steps:
            with held_buffers(self.model):
                self._explore(closure)
        self.update()
        self.taken += 1
        return loss

    def _explore(self, closure: Callable[[], Any]) -> None:
        """Set each gradient to w - m; leave the parameters at w."""
        moved = [p for p in self.parameters() if p.grad is not None]
        start = [p.detach().clone() for p in moved]
        means = [w.clone() for w in start]
        gamma = self.scope * (1 + self.growth) ** self.taken
        for _ in range(self.inner_steps):
            with torch.enable_grad():
                closure()
            with torch.no_grad():
                for parameter, w, mean in zip(moved, start, means, strict=True):
                    self._walk(parameter, w, gamma)
                    mean.lerp_(parameter, 1 - self.average)
        with torch.no_grad():
            for parameter, w, mean in zip(moved, start, means, strict=True):
                parameter.copy_(w)
                parameter.grad = w - mean

    def _walk(self, v: Tensor, w: Tensor, gamma: float) -> None:
        """Take one inner step."""
        assert v.grad is not None
        change = v.grad - gamma * (w - v)
        if self.noise:
            random = torch.empty_like(v).normal_(generator=self.generator)
            change += self.noise / math.sqrt(self.inner_rate / 2) * random
        v.sub_(self.inner_rate * change)

    def update(self) -> None:
        """Step with the gradients that are there."""
        with torch.no_grad():
            self.base.step()

    def own_state(self) -> dict[str, Any]:
        """Return the number of steps, on which gamma depends."""
        return {"taken": self.taken}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.taken = state["taken"]


@final
class EntropySGD(Regulariser):
    """Wraps the optimiser."""

    neutral: ClassVar[Options] = {"inner_steps": 0}

    def __init__(self, **options: float) -> None:
        for name, rule, holds in (
            ("inner_steps", "at least 0", options["inner_steps"] >= 0),
            ("inner_rate", "above 0", options["inner_rate"] > 0),
            ("scope", "at least 0", options["scope"] >= 0),
            ("growth", "at least 0", options["growth"] >= 0),
            ("noise", "at least 0", options["noise"] >= 0),
            ("average", "in [0, 1)", 0 <= options["average"] < 1),
        ):
            require(holds, "entropy_sgd", f"{name} must be {rule}", options[name])
        self.options = options

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Keep the model, for its running statistics."""
        self.model = model
        return model

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Wrap it."""
        return EntropyOptimizer(optimizer, self.options, fit.generator, self.model)


def build(
    inner_steps: int = 20,
    inner_rate: float = 0.1,
    scope: float = 1e-4,
    growth: float = 1e-3,
    noise: float = 1e-4,
    average: float = 0.75,
) -> EntropySGD:
    """Return the method.

    inner_steps: L of the paper, of Langevin dynamics before each step
    inner_rate:  lr', their learning rate
    scope:       gamma at the first step: how strongly they are drawn back to w
    growth:      of gamma with each step
    noise:       epsilon, the size of their noise
    average:     share of the running mean that is kept in an inner step
    """
    return EntropySGD(
        inner_steps=inner_steps,
        inner_rate=inner_rate,
        scope=scope,
        growth=growth,
        noise=noise,
        average=average,
    )
