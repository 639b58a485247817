"""Draws the thumbnails of the gallery again, from the executed notebooks of the last build.

::

    python docs/tutorials/thumbnails.py docs/_build/jupyter_execute/tutorials

A notebook's thumbnail is the picture of its cell with the tag ``thumbnail``, 400 pixels wide, in 64 colours.
"""

import argparse
import base64
import io
import json
from pathlib import Path

from PIL import Image

SIZE = (400, 240)
PICTURES = Path(__file__).parent.parent / "_static" / "tutorials"


def picture(notebook: Path) -> bytes:
    """The PNG that the cell with the tag shows."""
    cells = json.loads(notebook.read_text())["cells"]
    (tagged,) = [cell for cell in cells if "thumbnail" in cell["metadata"].get("tags", ())]
    (shown,) = [output["data"]["image/png"] for output in tagged["outputs"] if "image/png" in output.get("data", {})]
    return base64.b64decode(shown)


def thumbnail(png: bytes) -> Image.Image:
    """The whole picture, in the middle of a white one of the thumbnails' size."""
    whole = Image.open(io.BytesIO(png)).convert("RGB")
    whole.thumbnail(SIZE, Image.Resampling.LANCZOS)
    framed = Image.new("RGB", SIZE, "white")
    framed.paste(whole, ((SIZE[0] - whole.width) // 2, (SIZE[1] - whole.height) // 2))
    return framed.quantize(64, Image.Quantize.MAXCOVERAGE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the thumbnails of the gallery again.")
    parser.add_argument("folder", type=Path, help="where the last build left the executed notebooks")
    for notebook in sorted(parser.parse_args().folder.glob("*.ipynb")):
        thumbnail(picture(notebook)).save(PICTURES / f"{notebook.stem}.png", optimize=True)
