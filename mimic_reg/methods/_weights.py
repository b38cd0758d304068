"""Weights that are replaced for a while: in training only, or for one prediction.

Shapes: B samples, C outputs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from mimic_reg.methods.base import Predict
from mimic_reg.models.base import Model


def parametrize_weights(model: Model, make: Callable[[], nn.Module]) -> None:
    """Apply a `make()` to each trained matrix and kernel whenever it is read.

    Biases and scales of norms stay as they are. The state of the model keeps its names, so that
    other methods, transfer and analyses find the weights themselves.
    """
    found = [(module, name) for module in list(model.modules()) for name in _matrices(module)]
    for module, name in found:
        # unsafe: no trial evaluation, which would draw random numbers
        register_parametrization(module, name, make(), unsafe=True)
        _keep_names(module)


def _matrices(module: nn.Module) -> list[str]:
    """Return the names of a module's own matrices and kernels, parametrised before or not."""
    given = getattr(module, "parametrizations", {})
    own = dict(module.named_parameters(recurse=False))
    own |= {name: changed.original for name, changed in given.items()}
    if isinstance(module, nn.utils.parametrize.ParametrizationList):
        return []
    return [name for name, p in own.items() if p.ndim >= 2 and p.requires_grad]


def _keep_names(module: nn.Module) -> None:
    """Save and load a module's parametrised tensors under their plain names."""
    if getattr(module, "_plain_names", False):
        return
    module._plain_names = True  # type: ignore[assignment]

    def rename(state: dict[str, Any], old: str, new: str) -> None:
        if old in state:
            state[new] = state.pop(old)

    def on_save(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        for name in module.parametrizations:  # type: ignore[union-attr]
            rename(state, f"{prefix}parametrizations.{name}.original", f"{prefix}{name}")

    def on_load(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        for name in module.parametrizations:  # type: ignore[union-attr]
            rename(state, f"{prefix}{name}", f"{prefix}parametrizations.{name}.original")

    module.register_state_dict_post_hook(on_save)  # type: ignore[no-untyped-call]
    module.register_load_state_dict_pre_hook(on_load)  # type: ignore[no-untyped-call]
    if isinstance(module, nn.RNNBase):
        module.register_forward_pre_hook(_read_anew)


def _read_anew(module: nn.Module, _: Any) -> None:
    """Renew the list of weights that a recurrent layer uses in its forward pass."""
    assert isinstance(module, nn.RNNBase)
    module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]


@contextmanager
def held_buffers(model: nn.Module) -> Iterator[None]:
    """Let passes change copies of the model's buffers, so that running means do not include them.

    The buffers themselves come back unwritten: a backward pass may still need them.
    """
    kept = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    for module, name, buffer in kept:
        module._buffers[name] = buffer.clone()
    try:
        yield
    finally:
        for module, name, buffer in kept:
            module._buffers[name] = buffer


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the model's parameters and buffers, by the names of its state."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@contextmanager
def replaced(model: nn.Module, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the model other weights inside the block: the result of `copy_of`."""
    own = copy_of(model)
    model.load_state_dict(dict(state))
    try:
        yield
    finally:
        model.load_state_dict(own)


def predicting_with(state: Mapping[str, Tensor], predict: Predict, model: nn.Module) -> Predict:
    """Return `predict` with other weights in the model."""

    def predict_with_it(x: Tensor, lengths: Tensor) -> Tensor:
        with replaced(model, state):
            return predict(x, lengths)

    return predict_with_it
