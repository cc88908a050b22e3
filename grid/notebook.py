"""How runs, experiments and their views look in a notebook: what varies first, and what does not behind a click."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from grid.markup import details, element, pairs, table, whole
from grid.views import described, status_counts

if TYPE_CHECKING:
    from grid.definition.run_definition import RunDefinition
    from grid.errors import GridError
    from grid.markup import Markup
    from grid.models import ArtifactRecord, ExperimentRecord, RunRecord
    from grid.run_state import RunState

MOST_ROWS = 100
"""How many experiments are shown: of more, nobody reads a table in a notebook."""

_SCRIPT = "Script"


def run_html(
    definition: RunDefinition, state: RunState, experiments: Sequence[ExperimentRecord], error: GridError | None
) -> str:
    """Return what is shown of a run, from what is known here.

    Parameters
    ----------
    definition, state
        The run.
    experiments
        The first of its experiments.
    error
        Why what is known is not the present state; None if it is.
    """
    record = state.record
    if record is None:
        given = {"name": definition.name, "entrypoint": definition.entrypoint, "script_args": definition.script_args}
        return whole(
            element("div", element("b", "Run"), " that is not started: preview() shows what it would be"),
            pairs((name, value) for name, value in given.items() if value),
        )
    facts = described(definition, state)
    facts["project"] = f"{record.project} @ {record.commit_sha}"
    return whole(
        element("div", element("b", f"Run {record.name}: "), _counts(state)),
        *_experiments(state, experiments),
        details("the run", pairs((name, facts[name]) for name in facts if name not in {"name", "status"})),
        *_remark(error),
    )


def experiments_html(state: RunState, experiments: Sequence[ExperimentRecord], error: GridError | None) -> str:
    """Return what is shown of the experiments of a run; the parameters are those of `run_html`."""
    return whole(element("div", _counts(state)), *_experiments(state, experiments), *_remark(error))


def experiment_html(record: ExperimentRecord, varying: Sequence[str], error: GridError | None) -> str:
    """Return what is shown of an experiment.

    Parameters
    ----------
    record
        What is known of it.
    varying
        The names of the parameters by which it differs from others of its run; none if that is not known.
    error
        Why what is known is not the present state; None if it is.
    """
    given = record.parameters
    facts = {
        "project": f"{record.project} @ {record.commit_sha}",
        "invocation_command": element("code", record.invocation_command),
        "user": record.user.username,
        "created_at": record.created_at,
        "started_running_at": record.started_running_at or "",
        "finished_at": record.finished_at or "",
    }
    first = [name for name in varying if name in given] or [name for name in given if name != _SCRIPT]
    return whole(
        element("div", element("b", f"Experiment {record.name}: "), record.status),
        pairs((name, given[name]) for name in first),
        *_constants(given.items(), first),
        details("the experiment", pairs(facts.items())),
        *_remark(error),
    )


def runs_html(records: Iterable[RunRecord], total: int) -> str:
    """Return what is shown of the newest of all runs of a user."""
    rows = [
        (
            record.name,
            f"{record.experiment_count:,}",
            _words({group.status.value: group.count for group in record.status.groups}),
            ", ".join(record.varying),
            record.description or "",
            record.created_at,
        )
        for record in records
    ]
    headings = ["", "experiments", "status", "varying", "description", "created_at"]
    return whole(table(headings, rows, _more(total - len(rows))))


def artifacts_html(records: Iterable[ArtifactRecord], *, has_more: bool) -> str:
    """Return what is shown of the files of an experiment."""
    rows = [(record.path, f"{int(record.size):,}", record.modified_at, record.sha256 or "") for record in records]
    return whole(table(["", "size", "modified_at", "sha256"], rows, "… and more" if has_more else ""))


def failed_html(error: GridError) -> str:
    """Return what is shown where nothing could be fetched."""
    return whole(element("div", f"could not be fetched: {error}"))


def _counts(state: RunState) -> str:
    number = len(state.indices)
    return f"{number:,} experiment{'s' * (number != 1)}{f': {_words(status_counts(state))}' if number else ''}"


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in counts.items())


def _experiments(state: RunState, experiments: Sequence[ExperimentRecord]) -> Iterator[Markup]:
    varying = state.record.varying if state.record else ()
    rows = [(each.name, each.status, *(each.parameters.get(name, "") for name in varying)) for each in experiments]
    missing = len(state.indices) - len(rows)
    if rows or missing:
        yield table(["", "status", *varying], rows, _more(missing))
    if experiments:
        yield from _constants(experiments[0].parameters.items(), varying)


def _constants(parameters: Iterable[tuple[str, str]], shown: Sequence[str]) -> Iterator[Markup]:
    others = [(name, value) for name, value in parameters if name not in shown]
    if others:
        yield details(f"{len(others)} more, which do{'es' * (len(others) == 1)} not vary", pairs(others))


def _more(number: int) -> str:
    return f"… and {number:,} more" if number else ""


def _remark(error: GridError | None) -> Iterator[Markup]:
    if error is not None:
        yield element("div", element("i", f"as it was last seen: {error}"))
