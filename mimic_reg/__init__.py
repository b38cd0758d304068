"""mimic-reg: reproducible deep learning on intensive-care time series.

The one effect of importing this package: threads of torch sleep while they wait for work. By
default they spin, which is many times slower where other programs use the same cores. OpenMP reads
these variables when torch is loaded, so they are set here, before any module can load it. They hold
for processes started from here as well. If torch was loaded before, they only hold for those.
What the user has set stays: OMP_WAIT_POLICY, GOMP_SPINCOUNT (GNU), KMP_BLOCKTIME (Intel, LLVM).
"""

import os

__version__ = "0.1.0"

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # passive threads of Intel's still spin for 200 ms
