"""Spectral dropout's cosine transform beside a product with its matrix, one thread, 32 vectors.

python benchmarks/cosine.py
"""

import time
from collections.abc import Callable

import torch

from mimic_reg.methods.spectral_dropout import CosineTransform


def seconds(function: Callable[[], object]) -> float:
    """Processor time of a call: the best of seven means of a hundred."""
    times = []
    for _ in range(7):
        start = time.process_time()
        for _ in range(100):
            function()
        times.append((time.process_time() - start) / 100)
    return min(times)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    for n in (128, 256, 512, 1024):
        h, transform = torch.randn(32, n), CosineTransform(n)
        matrix = transform(torch.eye(n))  # row i: the transform of the i-th unit vector
        product, fast = seconds(lambda h=h, m=matrix: h @ m), seconds(lambda h=h, t=transform: t(h))
        print(f"{n:5} units: {1e6 * product:6.0f} us by the matrix, {1e6 * fast:4.0f} us by FFT")


if __name__ == "__main__":
    main()
