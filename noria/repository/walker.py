"""What plain folders hold, by a process beside the one that asks: `python walker.py`, folders to it, rows from it.

It loads nothing but what Python has built in, so that it starts in ten milliseconds. A folder with anything in it that is neither
a file nor a folder, or that cannot be read, is left to who asked.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys

Row = tuple[str, int, int, int, int, int]  # path, size, mtime and ctime in ns, inode, 1 for a program


def plain_folder(top: str, prefix: str) -> tuple[list[Row], list[str]] | None:
    """The files of one folder and the folders in it, as prefixes of paths; None when it is not plain.

    It is opened, so that no name is looked up from the top.
    """
    rows, folders = list[Row](), list[str]()
    try:
        descriptor = os.open(f"{top}/{prefix}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{prefix}{entry.name}/")
                    continue
                status = entry.stat(follow_symlinks=False)
                mode = status.st_mode
                if not stat.S_ISREG(mode):
                    return None
                rows.append((
                    prefix + entry.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino,
                    1 if mode & stat.S_IXUSR else 0,
                ))  # fmt: skip
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return rows, folders


def walk(top: str, prefixes: list[str]) -> tuple[list[Row], list[str]]:
    """Everything below these folders, and the folders that are not plain."""
    rows, odd = list[Row](), list[str]()
    while prefixes:
        prefix = prefixes.pop()
        found = plain_folder(top, prefix)
        if found is None:
            odd.append(prefix)
            continue
        rows += found[0]
        prefixes += found[1]
    return rows, odd


if __name__ == "__main__":
    marshal.dump(walk(*marshal.load(sys.stdin.buffer)), sys.stdout.buffer)  # noqa: S302 - from the process that began this one
