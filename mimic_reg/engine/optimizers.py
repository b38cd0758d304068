"""The optimiser in a trial's settings."""

from torch.optim import SGD, Adagrad, Adam, Optimizer

from mimic_reg.methods._optimizers import ClippingOptimizer, DecayingOptimizer
from mimic_reg.methods.base import trainable
from mimic_reg.models.base import Model
from mimic_reg.settings import Training


def make_optimizer(model: Model, training: Training) -> Optimizer:
    """Return the optimiser of a model's trainable parameters, fused if torch supports it.

    Methods wrap it, so weight decay and clipping act on what methods make of the gradients.
    """
    optimizer = _plain(model, training)
    if training.weight_decay:
        optimizer = DecayingOptimizer(optimizer, training.weight_decay)
    if training.clip_norm is not None:
        optimizer = ClippingOptimizer(optimizer, training.clip_norm)
    return optimizer


def _plain(model: Model, training: Training) -> Optimizer:
    parameters = trainable(model)
    if training.optimizer == "adagrad":
        return Adagrad(parameters, lr=training.learning_rate)
    if training.optimizer == "sgd":
        return SGD(parameters, lr=training.learning_rate, fused=True)
    return Adam(parameters, lr=training.learning_rate, fused=True)
