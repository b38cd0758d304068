"""Trials one by one, in this process."""

from mimic_reg_pipelines.runners.base import Ended, Order, Runner
from mimic_reg_pipelines.runners.execute import execute


class InProcess(Runner):
    """Runs trials one by one, in this process."""

    def _run(self, order: Order) -> Ended:
        return Ended.model_validate_json(execute(order.model_dump_json()))
