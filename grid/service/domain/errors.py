"""What the domain refuses: one small tree, each error with what is wrong as values, and its message made of them here.

Which code a client gets for each is not known here: the API has a table of them.

::

    DomainError
    ├── Unauthenticated
    ├── NotOwner
    ├── InvalidValue
    ├── InvalidDigest
    ├── InvalidSize
    │   └── SnapshotTooLarge
    ├── InstanceTypeMissing
    ├── ClusterMissing
    ├── RunMissing
    ├── ExperimentMissing
    ├── NameTaken
    ├── TooManyExperiments
    ├── SweepError              in `sweeps`
    ├── NotEnded
    │   ├── RunNotEnded
    │   └── ExperimentNotEnded
    ├── Unsupported
    │   ├── ArgumentUnsupported
    │   ├── TooFewGpus
    │   ├── RunnerMissing
    │   └── TooLittleSpace
    ├── UploadRefused
    ├── UploadExpired
    ├── SnapshotRefused
    │   ├── SnapshotMissing
    │   ├── OtherArchive
    │   ├── NotAnArchive
    │   ├── MemberRefused
    │   └── LinkLeadsOut
    └── AccountError            what an operator is told
"""

from __future__ import annotations

from collections.abc import Sequence

# The most characters that a message repeats of what was given.
_LONGEST_VALUE = 200
_LONGEST_NAME = 200
_LONGEST_ID = 80


class DomainError(Exception):
    """What was asked for is refused, and nothing of it was done."""


# Who asks


class Unauthenticated(DomainError):
    """No enabled user has this id and this key. Which of the two is wrong, nobody is told."""

    def __init__(self) -> None:
        super().__init__("the user id and the API key are not accepted")


class NotOwner(DomainError):
    """Somebody may read a run or an experiment, and wanted to change it."""

    def __init__(self, kind: str, name: str, owner: str) -> None:
        super().__init__(f"the {kind} {name!r} belongs to {owner!r}: you may read it, and only they may change it")
        self.kind = kind
        self.name = name
        self.owner = owner


class AccountError(DomainError):
    """A user or a team cannot be changed as an operator asked for. Only people act on it, so it has only words."""


# What is asked for


class InvalidValue(DomainError):
    """A value is not allowed: what it is called, what it is, and what is wanted in its place."""

    def __init__(self, name: str, value: object, wanted: str) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= _LONGEST_VALUE else shown[:_LONGEST_VALUE] + "…"
        super().__init__(f"{name}={shown} is not allowed: {wanted}")
        self.name = name
        self.value = value
        self.wanted = wanted


class InvalidDigest(DomainError):
    """A digest does not have the form of one."""

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"digest {digest[:_LONGEST_ID]!r} is not the SHA-256 of an archive: 64 lower-case hexadecimal digits"
        )
        self.digest = digest


class InvalidSize(DomainError):
    """No archive has this size."""

    def __init__(self, size_bytes: float, most: int) -> None:
        super().__init__(f"a snapshot has 1 to {most:,} bytes, not {size_bytes:,}")
        self.size_bytes = size_bytes
        self.most = most


class SnapshotTooLarge(InvalidSize):
    """An archive may have this size, but not here."""


class InstanceTypeMissing(DomainError):
    """The catalogue does not have a type of this name; some that it has are near it."""

    def __init__(self, name: str, near: Sequence[str]) -> None:
        hint = f"; near it: {', '.join(near)}" if near else ""
        super().__init__(f"instance_type {name!r} is not in the catalogue{hint}; get_instance_types() lists all")
        self.name = name
        self.near = tuple(near)


class ClusterMissing(DomainError):
    """There is no cluster of this name; there is another one."""

    def __init__(self, name: str, known: str) -> None:
        super().__init__(f"there is no cluster {name[:_LONGEST_NAME]!r}; there is {known!r}")
        self.name = name
        self.known = known


class RunMissing(DomainError):
    """Whoever asks can read no run of this name and, where it was given, of this id."""

    def __init__(self, name: str | None = None, run_id: str | None = None) -> None:
        if name is None:
            message = f"you have no run of the id {(run_id or '')[:_LONGEST_NAME]!r}"
        else:
            message = f"you have no run named {name[:_LONGEST_NAME]!r}{_of_id(run_id)}"
        super().__init__(message)
        self.name = name
        self.run_id = run_id


class ExperimentMissing(DomainError):
    """Whoever asks can read no experiment of this name and, where it was given, of this id."""

    def __init__(self, name: str, experiment_id: str | None = None) -> None:
        super().__init__(f"you have no experiment named {name[:_LONGEST_NAME]!r}{_of_id(experiment_id)}")
        self.name = name
        self.experiment_id = experiment_id


def _of_id(given: str | None) -> str:
    """What to add where the name alone would mislead."""
    return f" of the id {given[:_LONGEST_ID]!r}" if given else ""


class NameTaken(DomainError):
    """Another run of the same user has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"you have a run named {name!r} already; choose another name, or none to be given one")
        self.name = name


class TooManyExperiments(DomainError):
    """A sweep makes more experiments than a run may have."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"the sweep makes {count:,} experiments; a run has at most {most:,}")
        self.count = count
        self.most = most


# What stands in the way


class NotEnded(DomainError):
    """Only what has ended can be deleted."""


class RunNotEnded(NotEnded):
    """Experiments of a run wait or run."""

    def __init__(self, name: str, unfinished: int) -> None:
        super().__init__(f"{unfinished} experiments of the run {name!r} wait or run: cancel it first")
        self.name = name
        self.unfinished = unfinished


class ExperimentNotEnded(NotEnded):
    """An experiment waits or runs."""

    def __init__(self, name: str, status: str) -> None:
        super().__init__(f"the experiment {name!r} is {status}: cancel it first")
        self.name = name
        self.status = status


# What a cluster cannot do


class Unsupported(DomainError):
    """The cluster cannot do what was asked for."""


class ArgumentUnsupported(Unsupported):
    """The cluster has nothing for an argument: the argument, with its value where that helps, and why."""

    def __init__(self, argument: str, why: str) -> None:
        super().__init__(f"{argument}: {why}")
        self.argument = argument
        self.why = why


class TooFewGpus(Unsupported):
    """Each experiment asks for more GPUs than the machine has."""

    def __init__(self, asked: int, there: int) -> None:
        super().__init__(f"each experiment asks for {asked} GPUs; this machine has {there}")
        self.asked = asked
        self.there = there


class RunnerMissing(Unsupported):
    """The program that scripts of this kind need is not installed."""

    def __init__(self, entrypoint: str, runner: str) -> None:
        super().__init__(f"entrypoint {entrypoint!r} needs {runner}, which is not on the service's PATH")
        self.entrypoint = entrypoint
        self.runner = runner


class TooLittleSpace(Unsupported):
    """The working copies that there may be at once need more bytes than are free."""

    def __init__(self, copies: int, needed: int, free: int) -> None:
        super().__init__(
            f"{copies} working copies of the source code need {_readable(needed)} on the disk, where "
            f"{_readable(free)} are free; make space, or take large files out of the source code"
        )
        self.copies = copies
        self.needed = needed
        self.free = free


def _readable(size: float) -> str:
    """Write a number of bytes in the unit that fits it."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"


# Uploads and snapshots


class UploadRefused(DomainError):
    """The address of an upload is not one that the service gave."""

    def __init__(self) -> None:
        super().__init__("this address does not take an upload: createSnapshot gives one that does")


class UploadExpired(DomainError):
    """The address of an upload was given too long ago."""

    def __init__(self) -> None:
        super().__init__("this address has expired: createSnapshot gives a new one")


class SnapshotRefused(DomainError):
    """A snapshot cannot be kept or used."""


class SnapshotMissing(SnapshotRefused):
    """A run is to have a snapshot that is not stored."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"the snapshot {digest[:_LONGEST_ID]!r} is not stored; createSnapshot says where to upload it")
        self.digest = digest


class OtherArchive(SnapshotRefused):
    """An upload does not have the size or the digest that were announced."""

    def __init__(self) -> None:
        super().__init__("the upload is not the archive that was announced: its size or its SHA-256 differs")


class NotAnArchive(SnapshotRefused):
    """What was uploaded cannot be read as an archive."""

    def __init__(self) -> None:
        super().__init__("the snapshot is not an uncompressed tar archive")


class MemberRefused(SnapshotRefused):
    """One member of an archive may not be unpacked."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"the snapshot cannot be unpacked: {name[:_LONGEST_NAME]!r}: {why}")
        self.name = name
        self.why = why


class LinkLeadsOut(SnapshotRefused):
    """A link in a snapshot leads out of it, by itself or through others."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the snapshot holds a link that leads out of it: {name[:_LONGEST_NAME]!r}")
        self.name = name
