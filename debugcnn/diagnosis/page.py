"""A report as one page of HTML."""

import base64
import html
import io
from itertools import groupby

import matplotlib.pyplot as plt

from ..text import printable
from .findings import Finding
from .registry import CAUSES

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse }
th, td { padding: .3em .8em; vertical-align: top; text-align: left }
.fault { color: #b00020; font-weight: bold } .fine, .skipped { opacity: .75 }
img { max-width: 100%; background: white }
@media (prefers-color-scheme: dark) { .fault { color: #ff8a80 } }
"""
SYMBOLS = {"fault": "✗", "suspicious": "?", "fine": "✓", "not examined": "–"}


def page(summary: str, findings: list[Finding], case) -> str:
    """A page of HTML, as text, that fetches nothing: a line, the faults with their pictures, which
    are drawn from the Case, and a table of all findings.
    """
    faults = [finding for finding in findings if finding.verdict == "fault"]
    count = len(faults)
    title = {0: "No fault found", 1: "One fault found"}.get(count, f"{count} faults found")
    sections = [_section(case, finding) for finding in faults]
    rows = [_rows(verdict, list(group)) for verdict, group in groupby(findings, _verdict)]
    return printable(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{html.escape(summary)}.</p>{''.join(sections)}<h2>All causes</h2>"
        "<table><thead><tr><th>verdict<th>cause<th>what was measured</thead>"
        f"<tbody>{''.join(rows)}</tbody></table></body></html>\n"
    )


def _verdict(finding):
    return finding.verdict


def _rows(verdict, findings):
    kind = "skipped" if verdict == "not examined" else verdict
    return "".join(
        f'<tr class="{kind}"><td>{SYMBOLS[verdict]} {verdict}<td>{finding.cause}'
        f"<td>{html.escape(finding.message)}"
        for finding in findings
    )


def _section(case, finding):
    """What is wrong, the evidence, what to do, and the picture of one fault."""
    file = io.BytesIO()
    with plt.rc_context({"text.parse_math": False}):  # a class may be called $x$
        figure, caption = CAUSES[finding.cause].draw(case, finding.evidence)
        figure.savefig(file, format="jpeg", dpi=100, pil_kwargs={"quality": 85})
        plt.close(figure)
    data = base64.b64encode(file.getvalue()).decode()
    caption = html.escape(caption)
    return (
        f"<h2>{finding.cause}: {html.escape(finding.title)}</h2>"
        f"<p>{html.escape(finding.message)}</p><p><b>{html.escape(finding.fix)}</b></p>"
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
