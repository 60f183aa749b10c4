"""What is known of one state, so that no renderer says 0, or "complete", where nobody looked."""

from undercroft.model.report import StateReport


def disk_read(state: StateReport) -> bool:
    """Tell whether all that may hold software was read; what the advisories lack is another matter."""
    if state.inventory is None:
        return False
    advisories = state.assessment.problems if state.assessment else ()
    return state.inventory.coverage.complete and not set(state.problems) - set(advisories)


def advisories_whole(state: StateReport) -> bool:
    """Tell whether the advisories could answer every question about what was read."""
    return state.assessment is not None and state.assessment.complete


def nothing_read(state: StateReport) -> bool:
    """Tell whether no package could be read, so that the rest follows from that."""
    return not disk_read(state) and (state.inventory is None or not state.inventory.packages)


def causes(state: StateReport) -> tuple[str, ...]:
    """Return the problems of a state without those that only follow from others.

    Where nothing was read, that no advisory could be matched needs no telling.
    """
    problems = tuple(dict.fromkeys(state.problems))
    if not nothing_read(state) or state.assessment is None:
        return problems
    return tuple(problem for problem in problems if problem not in state.assessment.problems) or problems
