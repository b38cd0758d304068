"""The device to compute on, and the memory that a fit uses on it."""

import resource
from contextlib import suppress
from pathlib import Path

import torch

from mimic_reg.errors import InputError


def find_device(name: str | None) -> torch.device:
    """Return the device of that name; by default the GPU if there is one.

    Raises:
        InputError: there is no such device.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise InputError(
            f"The device {name!r} cannot be used ({str(error).partition(chr(10))[0]}). "
            f"Devices of this machine: {', '.join(here)}."
        ) from error
    return device


def reset_peak_memory(device: torch.device) -> None:
    """Count a fit's peak memory from now on, if the system can: on a GPU, and on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            _CLEAR.write_text("5")  # the kernel's code to set the peak to the present use


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes, of the tensors on a GPU, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
