"""The decision curve of a model: its net benefit against the threshold of treatment."""

import numpy as np
from matplotlib.figure import Figure

from mimic_reg.metrics.calibration import Estimate
from mimic_reg.report.figures.drawing import DASHES, INK, PALETTE, PLAIN, panels_below


def decision_figure(thresholds: np.ndarray, model: list[Estimate], treat_all: np.ndarray) -> Figure:
    """Draw net benefit with its 95 % band, beside those of treating everyone and no one.

    thresholds, treat_all: (T,); model: T estimates
    """
    with panels_below(1, 3.6) as (figure, (ax,)):
        color, value = PALETTE[0], np.array([e.value for e in model])
        low, high = np.array([e.low for e in model]), np.array([e.high for e in model])
        ax.fill_between(thresholds, low, high, color=color, alpha=0.14, linewidth=0)
        ax.plot(thresholds, value, color=color, label="model")
        ax.plot(thresholds, treat_all, color=PLAIN, linestyle=DASHES[1], label="treat all")
        ax.axhline(0, color=INK, linewidth=0.9, linestyle=DASHES[2], label="treat none")
        most = max(float(high.max()), float(treat_all.max()), 0.01)
        ax.set_ylim(-0.25 * most, 1.1 * most)
        ax.set_xlabel("threshold of treatment (predicted risk)")
        ax.set_ylabel("net benefit")
    return figure
