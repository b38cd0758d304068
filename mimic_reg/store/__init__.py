"""The cohort store on disk. `stages` writes it; `spec` describes what it holds."""

import signal

from mimic_reg.store.hashes import file_hash, forget_hashes, known_hash
from mimic_reg.store.store import (
    MANIFEST,
    Store,
    changed_files,
    check_cohort,
    check_inside,
    check_target,
    disk_errors,
    kind_at,
    locked,
    make_folder,
    normalizer_name,
    origin,
    read_json,
    reading,
    write_json,
)

# Importing Polars makes SIGINT restart system calls: Ctrl-C would not end a wait for a lock, a
# thread or a process.
signal.siginterrupt(signal.SIGINT, True)
