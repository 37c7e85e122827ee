"""The command debugcnn: diagnose, inspect, heatmaps or separate."""

import importlib
import sys

# {command: (module with main(arguments) -> exit status, what it does)}
COMMANDS = {
    "diagnose": ("diagnosis.command", "find out what is wrong with a model"),
    "inspect": ("inspection", "see a model in all views, as one page"),
    "heatmaps": ("heatmap_comparison", "find out which heatmaps of a model to trust"),
    "separate": ("separator", "arrange photos for training, validation and test"),
}


def usage() -> str:
    """What the command does, as `debugcnn --help` prints it."""
    lines = ["usage: debugcnn COMMAND ...", ""]
    lines += [f"  {name:<10}{words}" for name, (_, words) in COMMANDS.items()]
    return "\n".join([*lines, "", "debugcnn COMMAND --help lists the arguments of a command."])


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit status, 2 for a mistake in the arguments."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        print(
            f"There is no command {name!r}: choose one of {', '.join(COMMANDS)}.", file=sys.stderr
        )
        return 2
    module = importlib.import_module(f".{COMMANDS[name][0]}", __package__)
    return module.main(rest) or 0


if __name__ == "__main__":
    sys.exit(main())
