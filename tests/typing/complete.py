"""Whether pyright knows the type of everything that annpipes exports: `tox -e verifytypes`."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

UNTYPED = {
    "annpipes.running.nodes.LoaderNode": "torchdata is published without types",
    "annpipes.integrations.accelerate.AcceleratedLoader": "Accelerate is published without types",
    "annpipes.integrations.lightning.LoaderDataModule": "where Lightning is not installed",
    "annpipes.integrations.scvi.ScviDataModule": "where scvi-tools is not installed",
    "annpipes.integrations.transformers.LoaderPlace": "where Transformers is not installed",
    "annpipes.integrations.transformers.LoaderTrainer": "where Transformers is not installed",
}
"""Classes that derive from one whose type is not known, and why it is not."""


def said_of_types() -> dict[str, Any]:
    """What pyright says of the package that is installed; what others leave unknown in it counts as known."""
    command = ("pyright", "--verifytypes", "annpipes", "--ignoreexternal", "--outputjson")
    ran = subprocess.run(command, capture_output=True, text=True)  # exit code 1 if anything is missing
    if not ran.stdout:
        sys.exit(ran.stderr)
    found: dict[str, Any] = json.loads(ran.stdout)["typeCompleteness"]
    return found


def main() -> None:
    """Name what has no known type, and the share that has one."""
    report = said_of_types()
    exported = [symbol for symbol in report["symbols"] if symbol["isExported"]]
    lacking = [symbol for symbol in exported if not symbol["isTypeKnown"]]
    unexpected = [symbol for symbol in lacking if symbol["name"] not in UNTYPED]
    for symbol in unexpected:
        print(symbol["name"], *(one["message"] for one in symbol["diagnostics"]), sep="\n    ")
    print(f"{1 - len(lacking) / len(exported):.2%} of {len(exported):,} exported symbols have a known type")
    for symbol in lacking:
        print(f"not {symbol['name']}: {UNTYPED.get(symbol['name'], 'unexpected')}")
    sys.exit(bool(unexpected) or not exported)


if __name__ == "__main__":
    main()
