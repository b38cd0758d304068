"""Distillation: train the model twice; the second fit learns from the predictions of the first.

Formula, with the teacher's logits z_t, the student's z_s, and temperature T::

    (1 - weight) * L + weight * T² * KL(softmax(z_t / T) || softmax(z_s / T))

With sigmoids the second term is the binary cross-entropy of z_s / T against sigmoid(z_t / T), times
T²; for a regression it is the squared distance of the outputs, without a temperature.

The teacher is the same network, trained first within the same fit ("born-again" networks). So it
has seen exactly the training samples of the student, at every training size, and needs no other
run. Its training ends if the validation score has not improved for `patience` epochs, or after
`teacher_share` of `max_epochs`; the teacher has the weights of its best epoch. Then weights,
buffers and the optimiser's moments return to their start, and the student trains. Epochs of the
teacher are not selected and do not count for early stopping.

Use it if labels are noisy and a fit may take about twice as long.

Notes:
- The teacher predicts the student's batch as other methods left it.
- What another method keeps besides the weights (J of ITPS) does not return to its start.
- With `swa`, a `start` below `teacher_share` may put weights of the teacher into the mean.

Kind: penalty

Paper: Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015, arXiv
1503.02531; Furlanello et al., "Born-again neural networks", ICML 2018.

Shapes: B samples, C outputs.
"""

import math

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import Optimizer

from mimic_reg.errors import InputError
from mimic_reg.methods._weights import copy_of
from mimic_reg.methods.base import Event, Fit, Regulariser, Step, require
from mimic_reg.models.base import Model
from mimic_reg.store.spec import Target

_NOT_PLAIN = "distillation restarts from plain weights, and these are noisy copies."
_OTHER_TEACHER = "the teacher would not be the model with the best validation score."
EXCLUDES = dict.fromkeys(("drop_connect", "weight_noise"), _NOT_PLAIN) | {
    "mollified_lstm": _OTHER_TEACHER,
    "nested_dropout": _OTHER_TEACHER,
    "snapshot_ensemble": "its snapshots would hold the teacher.",
}


def distillation_loss(
    target: Target, student: Tensor, teacher: Tensor, temperature: float
) -> Tensor:
    """Return the distance of the student's logits from the teacher's, (B, C) each, times T²."""
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


class Distillation(Regulariser):
    """Train the teacher, restart the model, add the teacher's term to the loss.

    weight:        weight of the teacher's term; the labels' term has 1 - weight
    temperature:   T
    teacher_share: longest training of the teacher, as a share of `max_epochs`
    patience:      epochs without a better validation score that end the teacher's training
    """

    neutral = {"weight": 0.0}
    alone = True  # it restarts the model
    remembered = ("best", "waited", "teaching", "start", "teacher")

    def __init__(
        self,
        weight: float = 0.5,
        temperature: float = 2.0,
        teacher_share: float = 0.5,
        patience: int = 10,
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
        self.start: dict[str, Tensor] = {}
        self.teacher: dict[str, Tensor] = {}

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
        return super().prepare(model, fit)

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Keep the initial weights, now that all methods have changed the model."""
        if self.weight:
            self.start = copy_of(self.model)
        return super().optimizer(optimizer, fit)

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
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
            self.waited, self.teacher = 0, copy_of(self.model)
        else:
            self.waited += 1
        longest = max(1, math.floor(self.teacher_share * fit.max_epochs))
        if self.waited >= self.patience or fit.epoch + 1 >= longest:
            self.model.load_state_dict(self.start)
            self.base.state.clear()
            self.teaching, self.start = True, {}
            fit.record("teacher_score", self.best)


build = Distillation
