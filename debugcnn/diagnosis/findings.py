"""What was measured of each cause, and what that says."""

from dataclasses import dataclass, field

from .registry import CAUSES, STAGES, Evidence

VERDICTS = ("fault", "suspicious", "fine", "not examined")


@dataclass(frozen=True)
class Measured:
    """One measurement as it was judged, kept so that limits can be fitted again."""

    cause: str
    measurement: str
    verdict: str  # in VERDICTS, after demotion
    value: float | None
    limit: float | None
    above: bool  # whether a fault lies above the limit
    message: str
    fix: str
    evidence: Evidence | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Finding:
    """What was found of one cause, by the measurement that says most."""

    cause: str
    verdict: str  # in VERDICTS
    value: float | None
    limit: float | None
    message: str
    fix: str  # only of a fault
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    @property
    def title(self) -> str:
        return CAUSES[self.cause].title


def findings_of(measurements: list[Measured]) -> list[Finding]:
    """One Finding for each cause, the worst verdict first, and of equal ones the root first."""
    rank = {verdict: position for position, verdict in enumerate(VERDICTS)}
    chosen, order = {}, {}
    for position, measured in enumerate(measurements):
        known = chosen.get(measured.cause)
        order.setdefault(measured.cause, position)
        # A later measurement of the same verdict says more, unless there is nothing to say.
        serious = measured.verdict in ("fault", "suspicious")
        better = known and rank[measured.verdict] < rank[known.verdict]
        if not known or better or (serious and measured.verdict == known.verdict):
            chosen[measured.cause] = measured
    findings = [
        Finding(m.cause, m.verdict, m.value, m.limit, m.message, m.fix, m.evidence)
        for m in chosen.values()
    ]
    stage = {name: STAGES.index(CAUSES[name].stage) for name in chosen}
    return sorted(findings, key=lambda f: (rank[f.verdict], stage[f.cause], order[f.cause]))
