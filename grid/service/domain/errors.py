"""What the domain refuses: one small tree of errors, each with the facts as attributes and a message made of them here.

The code that a client gets for each is not known here: the API has a table of them.

::

    DomainError
    ├── Unauthenticated
    ├── NotOwner
    ├── PauseRefused
    ├── InvalidValue
    ├── InvalidDigest
    ├── InvalidSize
    │   └── SnapshotTooLarge
    ├── InstanceTypeMissing
    ├── ClusterMissing
    ├── RunMissing
    ├── ExperimentMissing
    ├── AttemptMissing
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
    │   ├── LauncherMissing
    │   ├── DataMissing
    │   └── TooLittleSpace
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

# How many characters of a given value a message repeats at most.
_LONGEST_VALUE = 200
_LONGEST_NAME = 200
_LONGEST_ID = 80


class DomainError(Exception):
    """A request is refused, and no part of it was carried out."""


# Who asks


class Unauthenticated(DomainError):
    """No enabled user has this id and this key. The caller is not told which of the two is wrong."""

    def __init__(self) -> None:
        super().__init__("the user id and the API key are not accepted")


class NotOwner(DomainError):
    """A user tried to change a run or an experiment that they may only read."""

    def __init__(self, kind: str, name: str, owner: str) -> None:
        super().__init__(f"the {kind} {name!r} belongs to {owner!r}: you may read it, but only they may change it")
        self.kind = kind
        self.name = name
        self.owner = owner


class PauseRefused(DomainError):
    """A user may neither pause nor resume the cluster now."""

    def __init__(self, cluster: str, why: str) -> None:
        super().__init__(
            f"you may not pause or resume the cluster {cluster!r} now: {why}. Its operator may, and users may pause it "
            "while an experiment of theirs is running, and resume what they have paused"
        )
        self.cluster = cluster
        self.why = why


class AccountError(DomainError):
    """A user or a team cannot be changed as the operator asked. Only people read this, so it is only a message."""


# What is asked for


class InvalidValue(DomainError):
    """A value is not allowed: its name, the value, and what is expected instead."""

    def __init__(self, name: str, value: object, wanted: str) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= _LONGEST_VALUE else shown[:_LONGEST_VALUE] + "…"
        super().__init__(f"{name}={shown} is not allowed: expected {wanted}")
        self.name = name
        self.value = value
        self.wanted = wanted


class InvalidDigest(DomainError):
    """A text does not have the form of a digest."""

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"digest {digest[:_LONGEST_ID]!r} is not the SHA-256 of an archive: 64 lower-case hexadecimal digits"
        )
        self.digest = digest


class InvalidSize(DomainError):
    """No archive can have this size."""

    def __init__(self, size_bytes: float, most: int) -> None:
        super().__init__(f"a snapshot has 1 to {most:,} bytes, not {size_bytes:,}")
        self.size_bytes = size_bytes
        self.most = most


class SnapshotTooLarge(InvalidSize):
    """An archive can have this size, but this service does not accept it."""


class InstanceTypeMissing(DomainError):
    """The catalogue has no type of this name; it may have some with a similar name."""

    def __init__(self, name: str, near: Sequence[str]) -> None:
        hint = f"; close matches: {', '.join(near)}" if near else ""
        super().__init__(f"instance_type {name!r} is not in the catalogue{hint}; get_instance_types() lists all")
        self.name = name
        self.near = tuple(near)


class ClusterMissing(DomainError):
    """There is no cluster of this name; there is only one, with another name."""

    def __init__(self, name: str, known: str) -> None:
        super().__init__(f"there is no cluster {name[:_LONGEST_NAME]!r}; the only cluster is {known!r}")
        self.name = name
        self.known = known


class RunMissing(DomainError):
    """The caller can read no run with this name and, if it was given, this id."""

    def __init__(self, name: str | None = None, run_id: str | None = None) -> None:
        if name is None:
            message = f"you have no run with the id {(run_id or '')[:_LONGEST_NAME]!r}"
        else:
            message = f"you have no run named {name[:_LONGEST_NAME]!r}{_of_id(run_id)}"
        super().__init__(message)
        self.name = name
        self.run_id = run_id


class ExperimentMissing(DomainError):
    """The caller can read no experiment with this name and, if it was given, this id."""

    def __init__(self, name: str | None = None, experiment_id: str | None = None) -> None:
        if name is None:
            message = f"the run has no experiment with the id {(experiment_id or '')[:_LONGEST_NAME]!r}"
        else:
            message = f"you have no experiment named {name[:_LONGEST_NAME]!r}{_of_id(experiment_id)}"
        super().__init__(message)
        self.name = name
        self.experiment_id = experiment_id


class AttemptMissing(DomainError):
    """An experiment has no attempt of this number."""

    def __init__(self, name: str, number: int, current: int) -> None:
        there = "its only attempt is 1" if current == 1 else f"its attempts are 1 to {current}"
        super().__init__(f"the experiment {name!r} has no attempt {number}: {there}")
        self.name = name
        self.number = number
        self.current = current


def _of_id(given: str | None) -> str:
    """What to add if an id was given, because the name alone would mislead."""
    return f" with the id {given[:_LONGEST_ID]!r}" if given else ""


class NameTaken(DomainError):
    """Another run of the same user has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"you already have a run named {name!r}; choose another name, or leave it out to get one")
        self.name = name


class TooManyExperiments(DomainError):
    """A sweep has more experiments than a run may have."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"the sweep has {count:,} experiments; a run may have at most {most:,}")
        self.count = count
        self.most = most


# What stands in the way


class NotEnded(DomainError):
    """Only what has ended can be deleted."""


class RunNotEnded(NotEnded):
    """Some experiments of a run are still waiting or running."""

    def __init__(self, name: str, unfinished: int) -> None:
        super().__init__(f"{unfinished} experiments of the run {name!r} are waiting or running: cancel it first")
        self.name = name
        self.unfinished = unfinished


class ExperimentNotEnded(NotEnded):
    """An experiment is still waiting or running."""

    def __init__(self, name: str, status: str) -> None:
        super().__init__(f"the experiment {name!r} is {status}: cancel it first")
        self.name = name
        self.status = status


# What a cluster cannot do


class Unsupported(DomainError):
    """The cluster cannot do what was asked for."""


class ArgumentUnsupported(Unsupported):
    """The cluster does not support an argument: the argument, with its value if that helps, and why."""

    def __init__(self, argument: str, why: str) -> None:
        super().__init__(f"{argument}: {why}")
        self.argument = argument
        self.why = why


class TooFewGpus(Unsupported):
    """Each experiment asks for more GPUs than the machine has."""

    def __init__(self, asked: int, there: int, why: str = "") -> None:
        more = f" ({why})" if why else ""
        super().__init__(f"each experiment asks for {asked} GPUs; this machine has {there}{more}")
        self.asked = asked
        self.there = there


class RunnerMissing(Unsupported):
    """The program that scripts of this kind need is not installed."""

    def __init__(self, entrypoint: str, runner: str) -> None:
        super().__init__(f"entrypoint {entrypoint!r} needs {runner}, which is not on the service's PATH")
        self.entrypoint = entrypoint
        self.runner = runner


class LauncherMissing(Unsupported):
    """The program that a run's launcher begins with is not there."""

    def __init__(self, launcher: str, program: str, what_to_do: str) -> None:
        super().__init__(
            f"{launcher}: {program[:_LONGEST_NAME]!r} is not a program that the service's machine finds; {what_to_do}"
        )
        self.launcher = launcher
        self.program = program
        self.what_to_do = what_to_do


class DataMissing(Unsupported):
    """Some of the places that data is to be linked from do not exist."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"data: {', '.join(map(repr, missing))} cannot be found on the service's machine, where each target must "
            "exist: what lies on yours has to be copied or mounted there first, if that is another one"
        )
        self.missing = tuple(missing)


class TooLittleSpace(Unsupported):
    """The working copies that there may be at once need more bytes than are free."""

    def __init__(self, copies: int, needed: int, free: int) -> None:
        super().__init__(
            f"{copies} working copies of the source code need {_readable(needed)} on the disk, which has "
            f"{_readable(free)} free; make space, or take large files out of the source code"
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


# Snapshots


class SnapshotRefused(DomainError):
    """A snapshot cannot be stored or used."""


class SnapshotMissing(SnapshotRefused):
    """A run needs a snapshot that is not stored, or that its user has neither uploaded nor may read."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"the snapshot {digest[:_LONGEST_ID]!r} is not stored; createSnapshot says where to upload it")
        self.digest = digest


class OtherArchive(SnapshotRefused):
    """An upload does not have the size or the digest that was announced."""

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
    """A link in a snapshot leads out of it, directly or through other links."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the snapshot contains a link that leads out of it: {name[:_LONGEST_NAME]!r}")
        self.name = name
