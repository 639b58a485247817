"""Where the lists beside this differ from what the projects say of themselves today, which takes the internet.

``python docs/inventories/check.py``. A list has a line for each name that our pages or docstrings link to, in the first
version of Sphinx's format, which is text: name, type, page.
"""

import sys
import tomllib
from pathlib import Path
from urllib.request import Request, urlopen

from sphinx.util.inventory import InventoryFile

HERE = Path(__file__).parent


def differences(name: str, url: str) -> list[str]:
    """A line for each name that the project keeps elsewhere, or nowhere."""
    ours = InventoryFile.loads((HERE / f"{name}.txt").read_bytes(), uri=url).data
    request = Request(f"{url}/objects.inv", headers={"User-Agent": "annpipes documentation"})  # noqa: S310
    with urlopen(request, timeout=30) as answer:  # noqa: S310 (addresses of lists.toml)
        theirs = InventoryFile.loads(answer.read(), uri=url).data
    kinds = [entries for kind, entries in theirs.items() if kind.startswith("py:")]
    places = {entry: item.uri for entries in kinds for entry, item in entries.items()}
    return [
        f"{name}: {entry} is at {places.get(entry, 'no place')}, not at {item.uri}"
        for entries in ours.values()
        for entry, item in entries.items()
        if places.get(entry) != item.uri
    ]


def main() -> None:
    projects = tomllib.loads((HERE.parent / "lists.toml").read_text())["projects"]
    found = [line for name, url in projects.items() for line in differences(name, url)]
    print("\n".join(found) or "all as they say")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
