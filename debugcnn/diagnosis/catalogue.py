"""The causes and their limits as tables, for the documentation and --help."""

from . import causes  # noqa: F401  # registers them
from .engine import in_order
from .registry import CAUSES, Cause


def causes_in_order() -> list[Cause]:
    """All causes in the order in which they are measured, roots first."""
    return list({m.cause: CAUSES[m.cause] for m in in_order()}.values())


def causes_table() -> str:
    """Markdown: for each cause its symptom, what is wrong, the check that shows it, and the fix."""
    rows = ["| symptom | cause | what is wrong | picture or test | fix |", "|---|---|---|---|---|"]
    for cause in causes_in_order():
        cells = cause.symptom, f"`{cause.name}`", cause.title, cause.check, cause.fix
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def limits_table() -> str:
    """Markdown: for each measurement with a limit its value, unit, direction and origin."""
    rows = ["| measurement | a fault | of | origin of the limit |", "|---|---|---|---|"]
    for measurement in in_order():
        limit = measurement.limit
        if limit:
            direction = "above" if limit.above else "below"
            cells = f"{direction} {limit.value:g}", limit.unit, limit.origin
            rows.append(f"| `{measurement.cause}:{measurement.name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def help_lines() -> str:
    """A line for each cause."""
    return "\n".join(f"  {cause.name:<20}{cause.title}" for cause in causes_in_order())
