"""The tables and the figure of what `run.py` found."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
README = HERE.parent / "README.md"
FIGURE = HERE.parent / "images" / "figures" / "bugs.png"
BEGIN, END = "<!-- written by injected_faults/run.py -->", "<!-- end of what it wrote -->"
HALVES = ("development", "held out")
SILENT = "nothing"


def first(found):
    """The cause that is named first."""
    return found["named"][0] if found["named"] else SILENT


def first_right(found):
    """Whether the first cause that is named is a right answer; of a sound net, that none is."""
    return first(found) in (found["right"] or [SILENT])


def groups(results):
    """{(kind, fault): its instances}"""
    found = {}
    for name, one in results["instances"].items():
        found.setdefault((one["kind"], name.split(" / ")[0]), []).append(one)
    return found


def count(some):
    """How many of the instances are right, in words."""
    return f"{sum(map(first_right, some))} of {len(some)}" if some else ""


def faults_table(results):
    """Markdown: how often each fault is named first, on either half."""
    lines = [
        "| planted | how | development | held out | right answers | what was named instead |",
        "|---|---|---|---|---|---|",
    ]
    for (kind, name), group in groups(results).items():
        if kind == "sound":
            continue
        halves = [count([one for one in group if one["half"] == half]) for half in HALVES]
        others = ", ".join(sorted({first(one) for one in group if not first_right(one)}))
        answers = ", ".join(group[0]["right"])
        lines.append(f"| {name} | {kind} | {' | '.join(halves)} | {answers} | {others} |")
    return "\n".join(lines)


def sound_table(results):
    """Markdown: what is said of each sound net."""
    lines = [
        "| sound net | half | accuracy | faults | suspicious |",
        "|---|---|---|---|---|",
    ]
    for name, one in results["instances"].items():
        if one["kind"] == "sound":
            said = (", ".join(one[key]) for key in ("named", "suspicious"))
            what = name.split(" / ")[1]
            lines.append(f"| {what} | {one['half']} | {one['accuracy']:.1%} | {' | '.join(said)} |")
    return "\n".join(lines)


def totals(results, half=None):
    """{"planted": at full strength, "right": of them, "weaker", "weaker right", "sound":
    examinations of sound nets, "alarms": in them}
    """
    found = [one for one in results["instances"].values() if half in (None, one["half"])]
    full = [one for one in found if one["kind"] not in ("weaker", "sound")]
    weaker = [one for one in found if one["kind"] == "weaker"]
    sound = [one for one in found if one["kind"] == "sound"]
    return {
        "planted": len(full),
        "right": sum(map(first_right, full)),
        "weaker": len(weaker),
        "weaker right": sum(map(first_right, weaker)),
        "sound": len(sound),
        "alarms": sum(bool(one["named"]) for one in sound),
    }


def compared(results):
    """{tool: {"right", "silent", "alarms", "said"}} on the instances that every tool was
    asked about: how many faults at full strength have a right answer anywhere among what
    it says, of how many it says nothing, in how many sound nets it sees a fault, and how much it
    says of a fault, as a mean.
    """
    asked = [one for one in results["instances"].values() if "peers" in one]
    if not asked:
        return {}
    said = {"diagnose.py": [[{cause} for cause in one["named"]] for one in asked]}
    for tool in asked[0]["peers"]:
        said[tool] = [[set(causes) for _, causes in one["peers"][tool]] for one in asked]
    faulty = [one["kind"] not in ("weaker", "sound") for one in asked]
    sound = [one["kind"] == "sound" for one in asked]
    found = {}
    for tool, rows in said.items():
        hits = [bool(set().union(*row) & set(one["right"])) for row, one in zip(rows, asked)]
        found[tool] = {
            "right": int(np.sum(np.array(hits)[faulty])),
            "silent": sum(not row for row, fault in zip(rows, faulty) if fault),
            "alarms": sum(bool(row) for row, healthy in zip(rows, sound) if healthy),
            "said": float(np.mean([len(row) for row, fault in zip(rows, faulty) if fault])),
            "planted": sum(faulty),
            "sound": sum(sound),
        }
    return found


def peers_table(results):
    """Markdown: `compared`."""
    lines = [
        "| tool | right answer among all it says | says nothing | alarms on sound nets | "
        "causes named per fault |",
        "|---|---|---|---|---|",
    ]
    for tool, one in compared(results).items():
        lines.append(
            f"| {tool} | {one['right']} of {one['planted']} | {one['silent']} | "
            f"{one['alarms']} of {one['sound']} | {one['said']:.1f} |"
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def sentence(results):
    """The totals, in words."""
    held, all_ = totals(results, "held out"), totals(results)
    return (
        f"On the half that was held out, {held['right']} of {held['planted']} faults planted at "
        f"full strength get a right answer first, {held['weaker right']} of {held['weaker']} "
        f"weaker ones, and {held['alarms']} of {held['sound']} examinations of sound nets raise an "
        f"alarm. On both halves together it is {all_['right']} of {all_['planted']}, "
        f"{all_['weaker right']} of {all_['weaker']}, and {all_['alarms']} of {all_['sound']}."
    )


def matrix(results, side=0.26):
    """A figure: in each row a fault that is planted, in each column a cause that is named first,
    and how many of its instances; right answers are green, wrong ones red.
    """
    rows = groups(results)
    named = {first(one) for group in rows.values() for one in group}
    causes = [*sorted(named - {SILENT}, key=_rows_of(rows)), SILENT]
    figure, axis = plt.subplots(
        figsize=(4 + side * len(causes), 1.6 + side * len(rows)), layout="constrained"
    )
    for y, group in enumerate(rows.values()):
        right = group[0]["right"] or [SILENT]
        for x, cause in enumerate(causes):
            times = sum(first(one) == cause for one in group)
            colour = "tab:green" if cause in right else "tab:red"
            if times or cause in right:
                alpha = 0.12 + 0.75 * times / len(group) if times else 0.12
                axis.add_patch(plt.Rectangle((x, y), 1, 1, color=colour, alpha=alpha, lw=0))
            if times:
                axis.text(x + 0.5, y + 0.5, times, ha="center", va="center", fontsize=8)
    axis.set_xticks(np.arange(len(causes)) + 0.5, causes, rotation=90, fontsize=8)
    labels = [f"{name} ({len(group)})" for (_, name), group in rows.items()]
    axis.set_yticks(np.arange(len(rows)) + 0.5, labels, fontsize=8)
    axis.set(xlim=(0, len(causes)), ylim=(len(rows), 0), xlabel="named first")
    axis.xaxis.set_label_position("top")
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.set_xticks(np.arange(len(causes) + 1), minor=True)
    axis.set_yticks(np.arange(len(rows) + 1), minor=True)
    axis.grid(which="minor", color="0.9", linewidth=0.5)
    axis.tick_params(which="minor", length=0)
    return figure


def _rows_of(rows):
    """A sorting key for causes: the first and last fault to which one is a right answer."""

    def key(cause):
        right = [i for i, group in enumerate(rows.values()) if cause in group[0]["right"]]
        return (right[0], right[-1], cause) if right else (len(rows), len(rows), cause)

    return key


def fill(page, begin, text):
    """Exchange what stands in a page between `begin` and the next END."""
    before, rest = page.read_text().split(begin)
    after = rest.split(END, 1)[1]  # other commands mark what they write in the same way
    page.write_text(f"{before}{begin}\n{text}\n{END}{after}")


def write(results):
    """Put the tables into injected_faults/README.md, the totals into README.md, the figure into images."""
    parts = [
        f"{sentence(results)} Measured on {results['machine']}.",
        "Green fields are right answers; in brackets stands how often a fault was planted.",
        "![In each row a fault that is planted, in each column the cause that is named first. "
        "Nearly all counts lie on green fields, the right answers.](../images/figures/bugs.png)",
        faults_table(results),
        sound_table(results),
        peers_table(results),
    ]
    for page, text in {PAGE: "\n\n".join(filter(None, parts)), README: sentence(results)}.items():
        fill(page, BEGIN, text)
    figure = matrix(results)
    figure.savefig(FIGURE, dpi=100)
    plt.close(figure)
