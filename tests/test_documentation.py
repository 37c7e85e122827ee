"""The pages that are generated agree with the registries, and the hand-written ones exist."""

import re

from conftest import ROOT

from debugcnn.diagnosis import catalogue
from debugcnn.diagnosis.engine import in_order
from debugcnn.diagnosis.registry import CAUSES
from tools import documentation

PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")]


def test_the_page_of_causes_is_as_generated():
    assert (ROOT / documentation.CAUSES_PAGE).read_text() == documentation.causes_page()


def test_the_tables_name_every_cause_and_every_limit():
    table = catalogue.causes_table()
    assert all(f"| `{name}` |" in table for name in CAUSES)
    limits = catalogue.limits_table()
    assert all(f"`{m.cause}:{m.name}`" in limits for m in in_order() if m.limit)
    assert all(m.limit.origin and m.limit.unit for m in in_order() if m.limit)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_at_most_twenty_entries_at_the_top():
    kept = (ROOT / ".gitignore").read_text().split()
    entries = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    ignored = {name.strip("/") for name in kept}
    assert len(entries - ignored) <= 20
