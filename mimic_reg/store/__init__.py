"""The cohort store on disk. `stages` writes it; `spec` describes what it holds."""

from mimic_reg.store.store import (
    MANIFEST as MANIFEST,
    Store as Store,
    changed_files as changed_files,
    check_cohort as check_cohort,
    check_files as check_files,
    check_inside as check_inside,
    check_target as check_target,
    describe_files as describe_files,
    disk_errors as disk_errors,
    file_hash as file_hash,
    forget_hashes as forget_hashes,
    known_hash as known_hash,
    locked as locked,
    make_folder as make_folder,
    read_json as read_json,
    reading as reading,
    write_json as write_json,
)
