"""The device to compute on."""

import torch

from mimic_reg.errors import InputError


def default_device() -> str:
    """The GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def find_device(name: str | None) -> torch.device:
    """The device of that name; by default the GPU if there is one.

    Raises:
        InputError: there is no such device here.
    """
    name = name or default_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise InputError(
            f"The device {name!r} cannot be used here ({str(error).partition(chr(10))[0]}). "
            f"Devices here: {', '.join(here)}."
        ) from error
    return device
