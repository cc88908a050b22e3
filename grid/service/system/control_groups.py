"""Where this process stands in the machine's control groups, of either version, and what these allow it.

Nothing is written here. The spawner imports this, so it imports only what is just as light.
"""

from __future__ import annotations

import functools
import math

TYPE_CHECKING = False  # type checkers know the name; `typing` would be a twentieth of the spawner's memory
if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION_2 = ""
"""What stands for version 2 where a controller of version 1 could be named."""


def cpu_quota(root: str = "") -> float:
    """Return how many CPUs' worth of time all processes of the tightest group may use; infinity for no limit.

    Parameters
    ----------
    root
        A folder in which to find ``/proc`` and whatever is mounted, instead of the machine's own root.
    """
    quotas = [math.inf]
    for folder in levels(VERSION_2, root):
        words = _content(f"{folder}/cpu.max").split()
        if len(words) == 2 and words[0] != "max":  # noqa: PLR2004 - the quota and its period
            quotas.append(int(words[0]) / int(words[1]))
    for folder in levels("cpu", root):
        quota, period = _content(f"{folder}/cpu.cfs_quota_us"), _content(f"{folder}/cpu.cfs_period_us")
        if quota and period and int(quota) > 0:  # -1 is no limit
            quotas.append(int(quota) / int(period))
    return min(quotas)


def memory_limit(root: str = "") -> float:
    """Return how many bytes of memory all processes of the tightest group may use; infinity for no limit.

    Parameters
    ----------
    root
        See `cpu_quota`.
    """
    limits = [_content(f"{folder}/memory.max") for folder in levels(VERSION_2, root)]
    # Version 1 has no word for no limit, but a number that no machine reaches.
    limits += [_content(f"{folder}/memory.limit_in_bytes") for folder in levels("memory", root)]
    return min((float(limit) for limit in limits if limit not in ("", "max")), default=math.inf)


def levels(controller: str, root: str = "") -> Iterator[str]:
    """Yield the folder of the group that this process is in, and of each group above it that can be seen.

    Parameters
    ----------
    controller
        A controller of version 1, or `VERSION_2`.
    root
        See `cpu_quota`.

    Yields
    ------
    str
        The nearest first. Nothing if these groups are not mounted.
    """
    place, folder = _mount(controller, root), own(controller, root)
    if place is None:
        return
    top = f"{root}{place[0]}"
    while folder is not None and folder != top:
        yield folder
        folder = folder.rpartition("/")[0]
    # Of a group that cannot be seen from here, the root is all that can: it then stands above it.
    yield top


def own(controller: str, root: str = "") -> str | None:
    """Return the folder of the group that this process is in; None if it cannot be seen from here.

    Parameters
    ----------
    controller, root
        See `levels`.
    """
    place, path = _mount(controller, root), _path(controller, root)
    if place is None or path is None:
        return None
    # In a container the mount's root may be the container's own group, and the path as the host sees it.
    point, top = place
    if ".." in path.split("/") or not f"{path}/".startswith(f"{top}/"):
        return None
    return f"{root}{point}{path[len(top) :].rstrip('/')}"


@functools.cache
def _mount(controller: str, root: str) -> tuple[str, str] | None:
    """Return where groups are mounted, and which group is the root there, both without a slash at the end."""
    for line in _content(f"{root}/proc/self/mountinfo").splitlines():
        mounted, _, source = line.partition(" - ")
        kind, _, *options = source.split(" ")
        is_meant = kind == "cgroup2" if controller == VERSION_2 else kind == "cgroup" and controller in _words(options)
        if is_meant:
            _, _, _, top, point, *_ = mounted.split(" ")
            return None if "\\" in point else (point.rstrip("/"), top.rstrip("/"))  # an escaped blank in the path
    return None


def _path(controller: str, root: str) -> str | None:
    """Return the path of this process's group, as the kernel says it."""
    for line in _content(f"{root}/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if (number == "0" and not controllers) if controller == VERSION_2 else controller in controllers.split(","):
            return path
    return None


def _words(options: list[str]) -> list[str]:
    return ",".join(options).split(",")


def _content(path: str) -> str:
    """Return what is in a file; nothing if there is none, as for a limit in the topmost group."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - pathlib is not light
            return file.read().strip()
    except OSError:
        return ""
