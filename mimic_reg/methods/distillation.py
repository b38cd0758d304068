"""Distillation: a second training of the model learns from what the first one predicts.

Hinton, Vinyals, Dean, arXiv 1503.02531: the loss is (1 - weight) * data loss + weight * T² *
KL(softmax(z_t / T) || softmax(z_s / T)), z_t the teacher's logits and z_s the student's. With
sigmoids it is the binary cross-entropy of z_s / T against sigmoid(z_t / T), times T²; for a
regression the squared distance of the outputs, without a temperature.

The teacher is a first generation of the same network (Furlanello et al., "Born-again neural
networks", ICML 2018), trained within the same fit: so it has seen exactly the training samples of
the student, at every supervision level, and a trial needs no other run. In the first phase the
model trains as ever. It ends when the validation score has not improved for `patience` epochs, or
after `teacher_share` of `max_epochs`; the weights of its best epoch are the teacher's. Then
weights, buffers and the optimiser's moments are set back to the start, and the student trains.
Epochs of the teacher are not selected, and do not count for early stopping.

Rulings: the teacher is evaluated on the student's batch as other methods left it. What another
method keeps beside the model's weights (ITPS its J) is not set back. With swa, a `start` below
`teacher_share` may put weights of the teacher into the mean.

Shapes: B samples, C outputs.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import Optimizer

from mimic_reg.errors import InputError
from mimic_reg.methods.base import Event, Fit, Options, Regulariser, Step, require
from mimic_reg.models.base import Model
from mimic_reg.store.spec import Target

_NOT_PLAIN = (
    "distillation starts its second training from plain weights, and these are noisy copies."
)
_OTHER_TEACHER = "the teacher would not be the model whose validation score was the best."
EXCLUDES = dict.fromkeys(("drop_connect", "weight_noise"), _NOT_PLAIN) | {
    "mollified_lstm": _OTHER_TEACHER,
    "nested_dropout": _OTHER_TEACHER,
    "snapshot_ensemble": "its snapshots would hold the teacher.",
}

State = dict[str, Tensor]


def distillation_loss(
    target: Target, student: Tensor, teacher: Tensor, temperature: float
) -> Tensor:
    """Return how far the student's outputs are from the teacher's, (B, C) each; times T²."""
    if target == "regression":
        return F.mse_loss(student, teacher)
    z_s, z_t = student / temperature, teacher / temperature
    if target == "multiclass":
        apart = F.kl_div(
            z_s.log_softmax(1), z_t.log_softmax(1), reduction="batchmean", log_target=True
        )
    else:
        apart = F.binary_cross_entropy_with_logits(z_s, z_t.sigmoid())
    return temperature**2 * apart


@final
class Distillation(Regulariser):
    """Trains the teacher, starts again, adds the teacher's part to the loss."""

    neutral: ClassVar[Options] = {"weight": 0.0}
    alone = True  # it starts the model again

    def __init__(
        self, weight: float, temperature: float, teacher_share: float, patience: int
    ) -> None:
        name = "distillation"
        require(0 <= weight <= 1, name, "weight must be in [0, 1]", weight)
        require(temperature > 0, name, "temperature must be above 0", temperature)
        between = 0 < teacher_share < 1
        require(between, name, "teacher_share must be above 0 and below 1", teacher_share)
        require(patience >= 1, name, "patience must be at least 1", patience)
        self.weight, self.temperature = weight, temperature
        self.teacher_share, self.patience = teacher_share, patience
        self.best, self.waited, self.teaching = -math.inf, 0, weight == 0
        self.start: State = {}
        self.teacher: State = {}

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Keep the model.

        Raises:
            InputError: the fit is too short for a teacher and a student.
        """
        if self.weight and fit.train is not None and fit.max_epochs < 2:
            raise InputError(
                "distillation trains a teacher, then a student: max_epochs must be at least 2, "
                f"got {fit.max_epochs}."
            )
        self.model = model
        return model

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Keep the optimiser, and the weights as they start, with all that methods added."""
        self._optimizer = optimizer
        if self.weight:
            self.start = self._weights()
        return optimizer

    def _weights(self) -> State:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Replace a share of the data loss by the distance from the teacher."""
        if not self.weight or not self.teaching:
            return loss
        teacher = self._teacher_logits(step)
        apart = distillation_loss(fit.target, step.logits, teacher, self.temperature)
        return loss + self.weight * (apart - step.per_sample.mean())

    @torch.no_grad()
    def _teacher_logits(self, step: Step) -> Tensor:
        model = step.model
        model.eval()
        logits: Tensor = functional_call(model, self.teacher, (step.batch.x, step.batch.lengths))
        model.train()
        return logits

    def tick(self, event: Event, fit: Fit) -> None:
        """Keep the best teacher; begin the student."""
        if self.teaching:
            return
        if event == "before_validation":
            fit.eligible = False
        elif event == "epoch_end":
            fit.started = False
            self._judge(fit)

    def _judge(self, fit: Fit) -> None:
        if not self.teacher or (fit.score is not None and fit.score > self.best):
            self.best = -math.inf if fit.score is None else fit.score
            self.waited, self.teacher = 0, self._weights()
        else:
            self.waited += 1
        longest = max(1, math.floor(self.teacher_share * fit.max_epochs))
        if self.waited >= self.patience or fit.epoch + 1 >= longest:
            self.model.load_state_dict(self.start)
            self._optimizer.state.clear()
            self.teaching, self.start = True, {}
            fit.record("teacher_score", self.best)

    def state_dict(self) -> dict[str, Any]:
        """The phase, the teacher, and while it trains the weights at the start."""
        return {
            "best": self.best,
            "waited": self.waited,
            "teaching": self.teaching,
            "start": dict(self.start),
            "teacher": dict(self.teacher),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.best, self.waited = state["best"], state["waited"]
        self.teaching = state["teaching"]
        devices = {name: value.device for name, value in self.model.state_dict().items()}
        self.start, self.teacher = (
            {name: value.to(devices[name], copy=True) for name, value in state[part].items()}
            for part in ("start", "teacher")
        )


def build(
    weight: float = 0.5, temperature: float = 2.0, teacher_share: float = 0.5, patience: int = 10
) -> Distillation:
    """The method.

    weight:        of the teacher's part, against the labels'
    temperature:   T
    teacher_share: of `max_epochs`, that the teacher trains at the most
    patience:      epochs without a better validation score that end its training
    """
    return Distillation(weight, temperature, teacher_share, patience)
