"""Write, verify, compare and import the files of the published benchmark.

Source: YerevaNN/mimic3-benchmarks (Harutyunyan et al. 2019, MIT licence).
"""

from mimic_reg.errors import InputError
from mimic_reg.store import Store, check_cohort


def check_benchmark(store: Store) -> None:
    """Refuse a store whose cohort is not made of MIMIC-III, as the published benchmark is.

    Raises:
        InputError: it holds another cohort.
    """
    check_cohort(store)
    if other := store.manifest.get("dataset"):
        raise InputError(
            f"{store.folder} holds a cohort of {other}. The published benchmark is made of "
            "MIMIC-III, so this command, which compares with it, does not apply."
        )
