"""The command `annpipes`, if what it needs is installed."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command."""
    try:
        from annpipes.tools.cli import annpipes
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("the command needs click: pip install 'annpipes[cli]'")
    annpipes()


if __name__ == "__main__":
    main()
