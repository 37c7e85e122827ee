"""What the diagnosis says, as text, JSON and a page."""

import json
from dataclasses import dataclass, field, fields
from os import PathLike

from ..files.atomic import write_atomically
from ..text import printable
from .findings import Finding, Measured
from .page import page

DIGITS = 4  # significant ones in JSON, so that rounding errors of parallel sums do not show


@dataclass(frozen=True)
class Report:
    """A diagnosis.

    `accuracy` and `auc` are those with the input as it should be fed, None where predictions are
    not finite; `accuracy_as_fed` is the accuracy before that. `findings` holds one Finding for each
    cause: faults first, and of these the root first.
    """

    accuracy: float | None
    accuracy_as_fed: float | None
    auc: float | None
    images: int
    value_range: tuple[float, float] | str
    findings: list[Finding]
    measurements: list[Measured]
    case: object = field(repr=False, compare=False)  # the Case, for pictures

    @property
    def faults(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict == "fault"]

    def to_dict(self) -> dict:
        """The report as JSON holds it."""
        return {
            "accuracy": _rounded(self.accuracy),
            "accuracy_as_fed": _rounded(self.accuracy_as_fed),
            "auc": _rounded(self.auc),
            "images": self.images,
            "value_range": self.value_range,
            "findings": [_plain(finding) for finding in self.findings],
            "measurements": [_plain(measured) for measured in self.measurements],
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1) + "\n"

    def to_html(self) -> str:
        """One page with pictures, which fetches nothing."""
        return page(first_line(self), self.findings, self.case)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the page to a .html file, or the numbers to a .json file."""
        text = self.to_json() if str(path).endswith(".json") else self.to_html()
        write_atomically(path, text)

    def __str__(self) -> str:
        lines = [first_line(self)]
        for finding in self.findings:
            if finding.verdict in ("fault", "suspicious"):
                lines.append(f"{finding.verdict:<12}{finding.cause}: {finding.title}.")
                lines.append(f"{'':<12}{finding.message}")
                lines += [f"{'':<12}{finding.fix}"] if finding.fix else []
        fine = [finding.cause for finding in self.findings if finding.verdict == "fine"]
        lines.append(f"{'fine':<12}{', '.join(fine)}")
        for reason, causes in _reasons(self).items():
            lines.append(f"not examined {', '.join(causes)}: {reason}")
        return printable("\n".join(lines))

    def _repr_html_(self) -> str:
        return self.to_html()


def first_line(report: Report) -> str:
    """How many images, and how accurate the model is on them."""
    if report.accuracy is None:
        return f"{report.images} images; the predictions are not finite"
    line = f"{report.images} images, accuracy {report.accuracy_as_fed:.1%} as fed"
    if report.accuracy != report.accuracy_as_fed:
        line += f", {report.accuracy:.1%} after the fix"
    return line


def _reasons(report):
    reasons = {}
    for finding in report.findings:
        if finding.verdict == "not examined":
            reasons.setdefault(finding.message, []).append(finding.cause)
    return reasons


def _plain(record):
    names = (f.name for f in fields(record) if f.name != "evidence")
    return {name: _rounded(getattr(record, name)) for name in names}


def _rounded(value):
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
