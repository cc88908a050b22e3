"""The NVIDIA GPUs of this machine, and which of them the service was given by ``CUDA_VISIBLE_DEVICES``."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
BY_ADDRESS = "PCI_BUS_ID"
"""The value of `ORDER` by which indices mean the same everywhere."""

_log = logging.getLogger(__name__)

_DRIVER = ("proc/driver/nvidia", "dev/nvidiactl", "dev/dxg")
"""One of these is there if a driver is; the last in Linux under Windows."""
_INDEX = re.compile(r"\+?([0-9]{1,9})")
"""As C reads a number: whatever follows it is left out."""
_WHOLE, _PART = _KINDS = ("GPU-", "MIG-")
"""How UUIDs begin."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a part of one that MIG has made a device of its own."""

    id: str
    """By which it is known for ever: its UUID, or its index where nothing can tell the UUID."""
    position: int
    """The place of the GPU, or of the one that it is a part of, in the order of PCI addresses."""
    model: str = ""
    whole: str = ""
    """The UUID of the GPU that it is a part of; empty for a whole one."""
    older_name: str = ""
    """What drivers before R470 call a part."""

    @property
    def is_part(self) -> bool:
        """Whether it is a part, for which there is no index."""
        return self.id.startswith("MIG-")


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs that experiments may use, and how to say so to a program."""

    usable: tuple[Gpu, ...] = ()
    """In the order in which they are handed out."""
    all: tuple[Gpu, ...] = ()
    """Those that the machine, or the container, has."""
    by_id: bool = False
    """Whether programs are given UUIDs, because the service was."""
    note: str = ""
    """Why there are no more of them, if there is something to say; for users."""
    doubt: str = ""
    """Why they may not be the ones that were meant; for users who get one. Empty if there is no doubt."""

    def variable(self, ids: Iterable[str]) -> str:
        """Return the value of ``CUDA_VISIBLE_DEVICES`` for a program that gets these GPUs.

        It goes with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``. Indices, if possible: many programs parse it as numbers.
        """
        known, chosen = {each.id: each for each in self.all}, list(ids)
        if self.by_id or any(each not in known or known[each].is_part for each in chosen):
            return ",".join(chosen)
        return ",".join(map(str, sorted(known[each].position for each in chosen)))

    def find(self, stored: str | int) -> str:
        """Return the id of a GPU that is stored by its id, or by its index as older services did."""
        return next((each.id for each in self.all if each.position == stored and not each.is_part), str(stored))


class NoSuchGpus(ValueError):
    """More GPUs are to be used than can be."""


def choose(found: Sequence[Gpu], note: str, environment: Mapping[str, str], most: int | None) -> Gpus:
    """Return which GPUs experiments may use.

    Parameters
    ----------
    found
        The machine's.
    note
        Why there are no more, if there is something to say.
    environment
        That of the service: ``CUDA_VISIBLE_DEVICES`` says which GPUs it was given.
    most
        How many the operator lets experiments use; None for all. Where none can be counted, the operator is believed.

    Raises
    ------
    NoSuchGpus
        If that is more than there are; the message says how many, and why.
    """
    variable = environment.get(VISIBLE)
    by_id = variable is not None and variable.lstrip().startswith(_KINDS)
    if not found and most is not None:
        found, note = _believed(variable, most, by_id=by_id), ""
    usable = visible(variable, found)
    if variable is not None and len(usable) < max(len(found), most or 0):
        note = f"the service was started with {VISIBLE}={variable!r}"
    if most is not None and most > len(usable):
        msg = f"experiments are to share {most} GPUs, but {len(usable)} can be used" + (f": {note}" if note else "")
        raise NoSuchGpus(msg)
    # CUDA's own order begins with what it takes for the fastest model. For GPUs of one model the two are the same.
    models = {each.model for each in found}
    doubt = ""
    if usable and variable is not None and not by_id and len(models) > 1 and environment.get(ORDER) != BY_ADDRESS:
        doubt = (
            f"the service was started with {VISIBLE}={variable!r} on a machine with GPUs of several models, and reads "
            f"that in the order of nvidia-smi; where {ORDER}={BY_ADDRESS} is set beside it, or it is a list of UUIDs, "
            "there is no doubt which ones are meant"
        )
    return Gpus(tuple(usable[:most]), tuple(found), by_id, note, doubt)


def _believed(variable: str | None, most: int, *, by_id: bool) -> Sequence[Gpu]:
    """Return GPUs that nothing can count: another maker's, or of a driver that does not answer."""
    if variable is None:
        return [Gpu(str(index), index) for index in range(most)]
    entries = [entry.strip() for entry in variable.split(",")]
    if by_id:
        return [Gpu(entry, place, older_name=entry) for place, entry in enumerate(dict.fromkeys(entries))]
    indices = [int(index[1]) for entry in entries if (index := _INDEX.match(entry))]
    return [Gpu(str(index), index) for index in sorted(set(indices))]


def visible(variable: str | None, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Return the GPUs that CUDA would show, in order, to a program with this value of ``CUDA_VISIBLE_DEVICES``.

    The list ends before its first entry that is no index, or not the beginning of exactly one UUID; it is void if it
    names a GPU twice; and it is all of one kind, that of its first entry. Where a GPU is named that has parts, all of
    them may be used.
    """
    if variable is None:
        return list(gpus)
    entries = [entry.strip() for entry in variable.split(",")]
    kind = next((each for each in _KINDS if entries[0].startswith(each)), "")
    chosen: list[Gpu] = []
    named: set[str] = set()
    for entry in entries:
        meant = _meant(entry, kind, gpus)
        # One, or the parts of one.
        name = {each.id if kind == _PART else each.whole or each.id for each in meant}
        if len(name) != 1:
            break
        if name & named:
            return []
        named |= name
        chosen += meant
    return chosen


def _meant(entry: str, kind: str, gpus: Sequence[Gpu]) -> list[Gpu]:
    if kind == _PART:
        return [each for each in gpus if each.is_part and entry.startswith(kind) and _is_name(entry, each)]
    if kind:
        return [each for each in gpus if entry.startswith(kind) and (each.whole or each.id).startswith(entry)]
    index = _INDEX.match(entry)
    return [each for each in gpus if index and each.position == int(index[1])]


def _is_name(entry: str, part: Gpu) -> bool:
    """Return whether an entry means a part: by its UUID, or by the GPU's with the numbers of its two instances."""
    if "/" not in entry:
        return part.id.startswith(entry)
    (gpu, _, numbers), (whole, _, its) = entry.partition("/"), part.older_name.partition("/")
    return numbers == its and whole.startswith(gpu)


def has_driver(root: Path) -> bool:
    """Return whether there is a driver of NVIDIA's."""
    return any((root / each).exists() for each in _DRIVER)


def count() -> tuple[tuple[Gpu, ...], str]:
    """Return the GPUs that NVIDIA's driver shows, in the order of their PCI addresses, and why there are no more.

    In a container these are the container's. A GPU with parts is not among them, but its parts are.
    """
    try:
        import pynvml as nvml  # noqa: PLC0415 - where there is no driver it would be for nothing
    except ModuleNotFoundError:
        note = "there is a driver of NVIDIA's, but not the package that counts GPUs: pip install nvidia-ml-py"
        _log.warning("%s", note)
        return (), note
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:  # in a container that was given none, its library is missing
        note = f"NVIDIA's driver shows none: {error}"
        _log.info("%s", note)
        return (), note
    try:
        return _count(nvml), ""
    except nvml.NVMLError as error:
        note = f"NVIDIA's driver does not answer: {error}"
        _log.warning("%s", note)
        return (), note
    finally:
        nvml.nvmlShutdown()


def _count(nvml: Any) -> tuple[Gpu, ...]:
    handles = []
    for number in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            pci = nvml.nvmlDeviceGetPciInfo(handle)
        except nvml.NVMLError as error:  # the container was not given it, or it has fallen off the bus
            _log.info("GPU %d cannot be used: %s", number, error)
            continue
        handles.append(((pci.domain, pci.bus, pci.device), number, handle))
    found: list[Gpu] = []
    for position, (_, _, handle) in enumerate(sorted(handles, key=lambda each: each[:2])):
        uuid = nvml.nvmlDeviceGetUUID(handle)
        model = nvml.nvmlDeviceGetName(handle)
        if _is_divided(nvml, handle):
            found += _parts(nvml, handle, Gpu(uuid, position, model))
        else:
            found.append(Gpu(uuid, position, model))
    return tuple(found)


def _is_divided(nvml: Any, handle: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # most GPUs, and older drivers, do not know MIG
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _parts(nvml: Any, handle: Any, whole: Gpu) -> Iterator[Gpu]:
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError:  # there is none of that number
            continue
        instances = f"{nvml.nvmlDeviceGetGpuInstanceId(part)}/{nvml.nvmlDeviceGetComputeInstanceId(part)}"
        older_name = f"MIG-{whole.id}/{instances}"
        yield Gpu(nvml.nvmlDeviceGetUUID(part), whole.position, whole.model, whole.id, older_name)
