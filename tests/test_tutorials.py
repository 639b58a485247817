"""What the gallery shows is there, and the notebook whose outputs are kept may be published."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"
FOLDER = DOCS / "tutorials"
TUTORIALS = sorted(path for path in [*FOLDER.glob("*.md"), *FOLDER.glob("*.ipynb")] if path.stem != "index")
CARDS = re.findall(r":link: (\w+)\n:link-type: doc\n:img-top: (\S+)\n:img-alt: \S", (FOLDER / "index.md").read_text())
KEPT: dict[str, Any] = json.loads((FOLDER / "scvi.ipynb").read_text())


def test_every_tutorial_has_a_card_with_its_thumbnail_and_what_it_shows_in_words() -> None:
    assert sorted(name for name, _ in CARDS) == sorted(path.stem for path in TUTORIALS)
    assert all(picture == f"../_static/tutorials/{name}.png" for name, picture in CARDS)


def test_thumbnails_are_small_and_belong_to_a_tutorial() -> None:
    pictures = list((DOCS / "_static" / "tutorials").iterdir())
    assert sorted(path.stem for path in pictures) == sorted(path.stem for path in TUTORIALS)
    assert all(path.stat().st_size < 30_000 for path in pictures)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_one_cell_makes_the_thumbnail_and_every_tutorial_can_be_downloaded(path: Path) -> None:
    text = path.read_text()
    assert len(re.findall(r'tags: \[thumbnail\]|"thumbnail"', text)) == 1
    assert f"<{path.stem}.ipynb>`" in text


def test_what_is_kept_is_small_and_tells_nothing_of_the_machine_or_of_errors() -> None:
    outputs = [output for cell in KEPT["cells"] for output in cell.get("outputs", ())]
    assert (FOLDER / "scvi.ipynb").stat().st_size < 200_000
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    assert "error" not in {output["output_type"] for output in outputs}
    for output in outputs:
        said = "".join(output.get("text", "")) + "".join(output.get("data", {}).get("text/plain", ""))
        assert not re.search(r"(?<![\w.])/\w+/", said), said
