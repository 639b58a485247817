"""The command `annpipes`; without click, what of it needs no click."""

from __future__ import annotations

import json
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command."""
    try:
        from annpipes.tools.cli import annpipes
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "click":
            raise
        sys.exit(_without_click(sys.argv[1:], error))
    annpipes()


def _without_click(arguments: list[str], error: ImportError) -> str | int:
    """The exit code of what runs all the same, or what to do."""
    match arguments:
        case ["quickstart", *rest]:
            from annpipes.tools.quickstart import main as train

            return train(rest, "annpipes quickstart")
        case ["info", *rest] if set(rest) <= {"--json"}:
            from annpipes.tools.installation import look_at_installation

            installation = look_at_installation()
            sys.stdout.write(f"{json.dumps(installation.to_dict(), indent=1) if rest else installation}\n")
            return 0 if installation.healthy else 1
    return f"the command needs click ({error}): pip install 'annpipes[cli]'; without it there are info and quickstart"


if __name__ == "__main__":
    main()
