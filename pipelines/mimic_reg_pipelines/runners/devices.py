"""The devices that processes share, and the memory that is free on them."""

import os
import re
import subprocess
import sys
from pathlib import Path

from mimic_reg.errors import InputError, MimicRegError

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
_FREE_ON_GPU = "import torch; print(*torch.cuda.mem_get_info())"
_SECONDS = 120


def find_gpus(device: str | None) -> list[str]:
    """Return the GPUs that trials may use, as CUDA_VISIBLE_DEVICES names them; []: the CPU.

    device: cpu, cuda or cuda:1; None: all GPUs, if there is one

    Raises:
        InputError: there is no such GPU.
    """
    kind, _, number = (device or "cuda").partition(":")
    if kind != "cuda":
        return []
    from torch import cuda  # without a context: only counted

    count = cuda.device_count()
    given = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    names = [name for name in given if name][:count] or [str(i) for i in range(count)]
    if not number:
        return names
    if not number.isdecimal() or int(number) >= len(names):
        here = ["cpu", *(f"cuda:{i}" for i in range(len(names)))]
        raise InputError(f"There is no device {device!r}. Devices here: {', '.join(here)}.")
    return [names[int(number)]]


def gpu_memory(gpu: str) -> tuple[int, int]:
    """Return the free and all bytes of a GPU, asked by a process of its own.

    Raises:
        MimicRegError: it cannot be asked.
    """
    asked = subprocess.run(
        [sys.executable, "-c", _FREE_ON_GPU],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    found = asked.stdout.split()
    if asked.returncode or len(found) != 2:
        said = asked.stderr.strip().rpartition("\n")[2]
        raise MimicRegError(
            f"The free memory of GPU {gpu} cannot be measured ({said}). Give a number to "
            "--per-device."
        )
    return int(found[0]), int(found[1])


def free_memory() -> int:
    """Return the bytes that this machine, or this container, has for new processes."""
    available = _kilobytes(_PROC / "meminfo", "MemAvailable")
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    try:
        # what files occupy is given back when processes need it
        files = re.findall(
            r"^(?:in)?active_file (\d+)$", (_CGROUP / "memory.stat").read_text(), re.M
        )
        cache = sum(map(int, files))
        return min(available, int(limit.read_text()) - int(used.read_text()) + cache)
    except (OSError, ValueError):  # no container, or "max": no limit
        return available


def own_memory(process: int) -> int:
    """Return the bytes that a process shares with no other; 0 if it has ended."""
    try:
        return _kilobytes(_PROC / str(process) / "status", "RssAnon")
    except OSError:
        return 0


def _kilobytes(path: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", path.read_text(), re.M)
    return int(found[1]) * 1024 if found else 0
