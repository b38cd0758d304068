"""Tasks together on a GPU: trained, resumed, and close to the CPU."""

import pytest
import torch

from mimic_reg.multitask import fit as multitask
from mimic_reg.runs import CHECKPOINT
from tests.multitask import fits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize("strategy", ["reptile", "joint"])
def test_tasks_are_trained_together_and_go_on(store, tmp_path, strategy):
    fit = fits.multi(strategy, [{"itps": {"tau": 1e-3}}])
    multitask.train(fit, store, tmp_path / "gpu", device="cuda")
    multitask.train(fit, store, tmp_path / "cpu", device="cpu")
    for task in fits.TASKS:
        on_gpu, on_cpu = (fits.epochs(tmp_path / place / task) for place in ("gpu", "cpu"))
        assert on_gpu[0]["loss"] == pytest.approx(on_cpu[0]["loss"], rel=1e-2)
    (tmp_path / "gpu" / "done.json").unlink()
    assert (tmp_path / "gpu" / CHECKPOINT).is_file()
    assert multitask.train(fit, store, tmp_path / "gpu", device="cuda").status == "finished"
