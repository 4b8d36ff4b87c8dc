"""The output file of an ended container, read where the engine keeps it, if that is on this machine and ours to read.

To copy a file out an engine mounts the container's file system anew and starts a process: 25 ms, and 3 ms to say that
there is none. The layer that a container writes to is an ordinary folder that nobody changes after its end.

What was tried and rejected: the engine's list of what a container has changed (it walks over all of it, and engines
that cannot tell it from the layer compare with the whole image); knowing before the end (only the end is the end).
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Mapping
from typing import Any

from scriptrules.executors._docker_policy import FOLDER, INPUT, OUTPUT
from scriptrules.executors._output import OUTPUT_FILE_MAX


def layer_of(found: Mapping[str, Any]) -> str | None:
    """The folder that a container writes to, as its engine calls it; None where that is no folder."""
    driver = found.get("GraphDriver") or {}
    if driver.get("Name") != "overlay2":
        return None
    folder: str | None = (driver.get("Data") or {}).get("UpperDir")
    return folder


def read_output(layer: str) -> bytes | None:
    """What the program has written to its output file, and one byte more than is allowed at most; None for no file.

    The program may have put anything in the place of the file or its folder, and no link of it is followed.

    Raises:
        OSError: it cannot be told from here, and the engine has to be asked: it is on another machine, we may not read
            its folders, or what is there is no plain file.
    """
    folder = os.open(layer + FOLDER, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # Where the input is not, there was another folder in the place of this one: a volume of the image.
        os.stat(posixpath.basename(INPUT), dir_fd=folder, follow_symlinks=False)
        return _plain_file(folder)
    finally:
        os.close(folder)


def _plain_file(folder: int) -> bytes | None:
    try:
        file = os.open(posixpath.basename(OUTPUT), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return None
    with open(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(f"{OUTPUT} is no plain file")
        return stream.read(OUTPUT_FILE_MAX + 1)
