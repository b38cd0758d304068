"""Sweeps on a real Ray cluster of two nodes; Ray listens on this machine only."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mimic_reg import experiments
from mimic_reg.errors import InputError
from mimic_reg.progress import Silent
from mimic_reg.runs import DONE, HISTORY
from mimic_reg.store import Store
from mimic_reg_pipelines.flows.settings import Work
from mimic_reg_pipelines.flows.sweep import sweep
from mimic_reg_pipelines.runners import Order, on_node, open_runner
from mimic_reg_pipelines.runners.settings import Running
from tests.pipelines.conftest import copy_of
from tests.pipelines.flows.experiments import content, experiment

SECONDS = 240  # until something must have happened, on a busy machine


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # loopback
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        from ray.cluster_utils import Cluster

        folder = tmp_path_factory.mktemp("ray")
        how = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
        how |= {"include_log_monitor": False, "no_monitor": True, "temp_dir": str(folder)}
        made = Cluster(initialize_head=True, head_node_args=how)
        made.folder = folder
        try:
            made.second = made.add_node(num_cpus=1, node_ip_address="127.0.0.1")
            yield made
        finally:
            made.shutdown()


def test_x(cluster, store, empty, tmp_path):
    copy_of(empty, tmp_path / "w")
    r = sweep(experiment(), tmp_path / "w", store=store, running=Running(runner="ray", address=cluster.address))
    print(r)
    os.system("cat /proc/self/stat; ps -eo pid,ppid,time,args | grep -i ray | cut -c1-150")
