"""The published benchmark's own files: write them, prove them, compare with them, read them.

Source: YerevaNN/mimic3-benchmarks (Harutyunyan et al. 2019, MIT licence).
"""

from mimic_reg.sources.benchmark_compare import Report, compare
from mimic_reg.sources.benchmark_export import Export, export
from mimic_reg.sources.benchmark_import import import_benchmark
from mimic_reg.sources.benchmark_published import Comparison, PublishedReport, verify_published

__all__ = [
    "Comparison",
    "Export",
    "PublishedReport",
    "Report",
    "compare",
    "export",
    "import_benchmark",
    "verify_published",
]
