"""The cohort store on disk. `stages` writes it; `spec` describes what it holds."""

from mimic_reg.store.store import (
    MANIFEST,
    Store,
    changed_files,
    check_cohort,
    check_inside,
    check_target,
    disk_errors,
    file_hash,
    forget_hashes,
    known_hash,
    locked,
    make_folder,
    normalizer_name,
    read_json,
    reading,
    write_json,
)
