"""The tables and the figure of the results of injected faults."""

from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from debugcnn.files.atomic import write_atomically

from .results import NOTHING, Result, Results

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
README = HERE.parent / "README.md"
FIGURE = HERE.parent / "images" / "figures" / "injected_faults.png"
BEGIN, END = "<!-- written by injected_faults/run.py -->", "<!-- end of what it wrote -->"
HALVES = ("development", "held out")
ALT = (
    "A matrix with a row for each injected fault and a column for each cause that is named first. "
    "Nearly all counts are on green cells, the accepted causes."
)


class Totals(NamedTuple):
    """How many instances there are of each sort, and how many of them are diagnosed correctly.

    `faults` counts faults at full strength, `weaker` the weaker ones, `healthy` examinations of
    healthy models, `false_alarms` those in which a fault was named.
    """

    faults: int
    correct: int
    weaker: int
    weaker_correct: int
    healthy: int
    false_alarms: int


def totals(results: Results, half: str | None = None) -> Totals:
    """The totals of one half, or of both."""
    instances = [r for r in results.instances.values() if half in (None, r.half)]
    full = [r for r in instances if r.kind not in ("weaker", "healthy")]
    weaker = [r for r in instances if r.kind == "weaker"]
    healthy = [r for r in instances if r.kind == "healthy"]
    return Totals(
        faults=len(full),
        correct=sum(r.correct for r in full),
        weaker=len(weaker),
        weaker_correct=sum(r.correct for r in weaker),
        healthy=len(healthy),
        false_alarms=sum(not r.correct for r in healthy),
    )


def groups(results: Results) -> dict[tuple[str, str], list[Result]]:
    """The results of each fault: {(kind, fault): its instances}."""
    grouped: dict[tuple[str, str], list[Result]] = {}
    for name, result in results.instances.items():
        grouped.setdefault((result.kind, name.split(" / ")[0]), []).append(result)
    return grouped


def faults_table(results: Results) -> str:
    """Markdown: how often the first cause is an accepted one, for each fault and half."""
    lines = [
        "| injected fault | kind | development | held out | accepted causes | named instead |",
        "|---|---|---|---|---|---|",
    ]
    for (kind, fault), group in groups(results).items():
        if kind != "healthy":
            counts = [_correct_of([r for r in group if r.half == half]) for half in HALVES]
            instead = sorted({r.first for r in group if not r.correct})
            cells = [fault, kind, *counts, ", ".join(group[0].expected), ", ".join(instead)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _correct_of(group):
    return f"{sum(r.correct for r in group)} of {len(group)}" if group else ""


def healthy_table(results: Results) -> str:
    """Markdown: the accuracy of each healthy model, and what was named."""
    lines = ["| healthy model | half | accuracy | fault | suspicious |", "|---|---|---|---|---|"]
    for name, r in results.instances.items():
        if r.kind == "healthy":
            model = name.split(" / ")[1]
            named = f"{', '.join(r.faults)} | {', '.join(r.suspicious)}"
            lines.append(f"| {model} | {r.half} | {r.accuracy:.1%} | {named} |")
    return "\n".join(lines)


def sentence(results: Results) -> str:
    """The totals as two sentences."""
    held_out, both = totals(results, "held out"), totals(results)
    return (
        f"On the held-out half, an accepted cause is named first for {held_out.correct} of "
        f"{held_out.faults} faults at full strength and for {held_out.weaker_correct} of "
        f"{held_out.weaker} weaker ones, with {held_out.false_alarms} false alarms in "
        f"{held_out.healthy} examinations of healthy models. On both halves together, the counts "
        f"are {both.correct} of {both.faults}, {both.weaker_correct} of {both.weaker}, and "
        f"{both.false_alarms} in {both.healthy}."
    )


def matrix(results: Results, side: float = 0.26) -> Figure:
    """A figure with a row for each fault and a column for each cause that is named first.

    A number counts instances. Accepted causes are green, others red; the paler a cell, the smaller
    its share of the row. A cell has sides of `side` inches.
    """
    rows = groups(results)
    named = {r.first for group in rows.values() for r in group}
    causes = [*sorted(named - {NOTHING}, key=_accepted_rows(rows)), NOTHING]
    size = 4 + side * len(causes), 1.6 + side * len(rows)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    for y, group in enumerate(rows.values()):
        accepted = group[0].expected or [NOTHING]
        for x, cause in enumerate(causes):
            count = sum(r.first == cause for r in group)
            if count or cause in accepted:
                colour = "tab:green" if cause in accepted else "tab:red"
                alpha = 0.12 + 0.75 * count / len(group)
                axis.add_patch(plt.Rectangle((x, y), 1, 1, color=colour, alpha=alpha, lw=0))
            if count:
                axis.text(x + 0.5, y + 0.5, count, ha="center", va="center", fontsize=8)
    _label(axis, causes, [f"{fault} ({len(group)})" for (_, fault), group in rows.items()])
    return figure


def _label(axis, columns, rows):
    """Label the cells of a matrix, and draw lines between them."""
    axis.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=90, fontsize=8)
    axis.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=8)
    axis.set(xlim=(0, len(columns)), ylim=(len(rows), 0), xlabel="named first")
    axis.xaxis.set_label_position("top")
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.set_xticks(np.arange(len(columns) + 1), minor=True)
    axis.set_yticks(np.arange(len(rows) + 1), minor=True)
    axis.grid(which="minor", color="0.9", linewidth=0.5)
    axis.tick_params(which="minor", length=0)


def _accepted_rows(rows):
    """A sorting key for causes: the first and last row in which one is accepted."""

    def key(cause):
        accepted = [i for i, group in enumerate(rows.values()) if cause in group[0].expected]
        return (accepted[0], accepted[-1], cause) if accepted else (len(rows), len(rows), cause)

    return key


def fill(page: Path, begin: str, text: str) -> None:
    """Replace what a page has between the line `begin` and the next line END."""
    before, rest = page.read_text().split(begin)
    after = rest.split(END, 1)[1]  # other commands mark what they write in the same way
    write_atomically(page, f"{before}{begin}\n{text}\n{END}{after}")


def write(results: Results) -> None:
    """Put the tables into injected_faults/README.md, the totals into README.md, and the figure into
    images/figures.
    """
    parts = [
        f"{sentence(results)} Measured on {results.hardware}.",
        f"![{ALT}](../images/figures/{FIGURE.name})",
        faults_table(results),
        healthy_table(results),
    ]
    fill(PAGE, BEGIN, "\n\n".join(parts))
    fill(README, BEGIN, sentence(results))
    figure = matrix(results)
    figure.savefig(FIGURE, dpi=100)
    plt.close(figure)
