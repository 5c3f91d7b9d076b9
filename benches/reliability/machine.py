"""The machine that a process believes to be on: its clock, its disk, and its power."""

import contextlib
import os
import pathlib
import struct
import subprocess

SECTOR = 512


def library(folder, name):
    """One of the libraries beside this file, compiled."""
    built = pathlib.Path(folder) / f"{name}.so"
    source = pathlib.Path(__file__).with_name(f"{name}.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", built, source, "-ldl"], check=True)
    return str(built)


class Clock:
    """The wall clock of processes, which have a library laid over theirs."""

    def __init__(self, folder):
        self.file = pathlib.Path(folder) / "clock"
        self.file.write_bytes(struct.pack("q", 0))
        self.env = {"LD_PRELOAD": library(folder, "clock"), "CLOCK_OFFSET": str(self.file)}

    def set(self, seconds):
        # In place: the file is mapped.
        with open(self.file, "r+b") as file:
            file.write(struct.pack("q", seconds))


class Disk:
    """A small file system of its own for the queue, which only root may have."""

    all = []  # for whoever is interrupted

    def __init__(self, folder, megabytes=64):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "spanhook-chaos", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        self.missing = done.stderr.strip() if done.returncode else None
        Disk.all.append(self)

    def fill(self, left):
        """Leaves so many bytes."""
        self.free()
        room = os.statvfs(self.folder)
        size = max(room.f_bavail * room.f_frsize - left, 0)
        with contextlib.suppress(OSError), open(self.folder / "ballast", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    def free(self):
        (self.folder / "ballast").unlink(missing_ok=True)

    def unmount(self):
        if self.missing is None and os.path.ismount(self.folder):
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class Power:
    """What a process wrote and did not sync is lost with the power: all of it, none of it, or some of its sectors."""

    def __init__(self, folder, of, rng):
        self.log, self.rng = pathlib.Path(folder) / "power", rng
        self.env = {"LD_PRELOAD": library(folder, "power"), "POWER_LOG": str(self.log), "POWER_FOLDER": str(of)}

    def cut(self):
        """After the SIGKILL. Gives how many writes were lost, in part at least."""
        pending = {}
        for kind, path, offset, before in self.notes():
            if kind == b"S":
                pending.pop(path, None)
            else:
                pending.setdefault(path, []).append((offset, before))
        self.log.write_bytes(b"")
        return sum(self.lose(path, writes) for path, writes in pending.items())

    def notes(self):
        text, at = self.log.read_bytes(), 0
        while at + 17 <= len(text):
            kind, named, offset, length = struct.unpack_from("<cIqI", text, at)
            path = text[at + 17 : at + 17 + named].decode()
            at += 17 + named + length
            yield kind, path, offset, text[at - length : at]

    def lose(self, path, writes):
        with contextlib.suppress(FileNotFoundError), open(path, "r+b") as file:
            size, lost = os.fstat(file.fileno()).st_size, 0
            for offset, before in reversed(writes):
                share = self.rng.choice([0, 1, 0.5])  # of sectors that reached the disk
                lost += share < 1
                for start in range(-(offset % SECTOR), len(before), SECTOR):
                    first, end = max(start, 0), min(start + SECTOR, len(before), size - offset)
                    if first < end and self.rng.random() >= share:
                        os.pwrite(file.fileno(), before[first:end], offset + first)
            return lost
        return 0
