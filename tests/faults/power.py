"""Power cuts: an ext4 file system in a file that loses, in an instant, all that is not on its disk.

Linux stops such a file system when it is told to, without writing what is in memory; mounted again
it is what a machine finds after a power cut.
"""

import fcntl
import itertools
import os
import shutil
import struct
import subprocess
from pathlib import Path

from tests.faults.kills import Case, Fell, moments, of_tree

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN: _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written


class UnavailableError(Exception):
    """No such file system may be mounted here."""


class Volume:
    """The file system, mounted at `place`."""

    def __init__(self, folder: Path, megabytes: int = 96):
        self.image, self.place = folder / "image", folder / "volume"
        self._copies = itertools.count()
        self.place.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(megabytes << 20)
        try:
            run("mkfs.ext4", "-q", "-F", self.image)
            self._mount()
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or error
            raise UnavailableError(
                f"needs ext4 on a loop device, which root may mount: {said}"
            ) from error

    def _mount(self):
        run("mount", "-o", "loop", self.image, self.place)

    def cut(self):
        """Cut the power: what writes meets errors from now on."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def restore(self):
        """Power is back: what is on the disk, mounted anew.

        A copy of it is: another test's namespace may still hold the file system that was cut.
        """
        self.close()
        copy = self.image.with_suffix(f".{next(self._copies)}")
        shutil.copyfile(self.image, copy)
        self.image.unlink()
        self.image = copy
        self._mount()

    def close(self):
        """Give it back; processes that were killed may still let go of it."""
        run("umount", "--lazy", self.place)


def run(*command):
    subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True)


class Cuts(Case):
    """A target whose power is cut while it runs, and as soon as it says that it is done."""

    def fall(self, seed, number=3):
        """Cut the power at the moments of a seed; the result beside the undisturbed one."""
        name = f"power_{self.target.name}"
        folder = self.target.folder / f"seed{seed}"
        volume = Volume(folder)
        place = volume.place / "case"
        cuts, kept = 0, True
        try:
            for moment in [*moments(f"{name} {seed}", self.seconds, number), 600]:
                process = self.target.begin(place)
                try:
                    code = process.wait(moment)
                except subprocess.TimeoutExpired:
                    volume.cut()
                    process.kill()
                    process.wait()
                    volume.restore()
                else:
                    assert code == 0, f"it ended with {code}"
                    before = of_tree(place)
                    volume.cut()
                    volume.restore()
                    kept = kept and of_tree(place) == before
                cuts += 1
            same = kept and self.target.result(place) == self.undisturbed
        finally:
            volume.close()
        return Fell(name, seed, cuts, cuts, same)
