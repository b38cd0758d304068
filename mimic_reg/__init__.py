"""mimic-reg: reproducible deep learning on intensive-care time series."""

__version__ = "0.1.0"
