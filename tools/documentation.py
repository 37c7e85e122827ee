"""Write the tables of the registries into the pages under docs/.

python -m tools.documentation
"""

from pathlib import Path

from debugcnn.diagnosis import catalogue
from debugcnn.files.atomic import write_atomically

CAUSES_PAGE = Path("docs", "causes.md")


def causes_page() -> str:
    """docs/causes.md, whole."""
    count = len(catalogue.causes_in_order())
    return (
        "# What `debugcnn diagnose` finds\n\n"
        "This page is written by `python -m tools.documentation` from the registry of causes.\n\n"
        f"There are {count} causes, in the order in which they are reported: where one explains "
        "another, the root comes first.\n\n"
        f"{catalogue.causes_table()}\n\n"
        "## Limits\n\n"
        "A measurement is a fault beyond its limit. `--limit cause=value` overrules the limit of a "
        "cause. The half of the injected faults that limits were set on is called the development "
        "half; [injected_faults/README.md](../injected_faults/README.md) says what it contains. "
        "The forms of the input (`input_scale`, `channel_order`, `flipped_or_rotated`, `resize`, "
        "and the second measurements of `missing_activation` and `batch_statistics`) compete in "
        "one search, whose limit depends on the AUC that is missing.\n\n"
        f"{catalogue.limits_table()}\n"
    )


def main() -> None:
    write_atomically(CAUSES_PAGE, causes_page())


if __name__ == "__main__":
    main()
