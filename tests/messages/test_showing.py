"""What notebooks show: tables of the very values that the text has, with nothing in them that is not escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import tiny
from scipy import sparse
from torch.utils.data.datapipes.iter import IterableWrapper

import annpipes as ap
from annpipes.reports import BenchCase, BenchLimit, Benchmark, Statistics

SCRIPT = "<script>alert('x')</script> & \"more\""


class Outline(HTMLParser):
    """Some HTML as a browser reads it: text, and cells of tables; every tag must be one of ours, and closed."""

    ALLOWED = frozenset(["div", "p", "strong", "br", "pre", "code", "table", "thead", "tbody", "tr", "th", "td"])

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said = ""
        self.tables: list[list[list[str]]] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in self.ALLOWED
        assert {name for name, _ in attributes} <= {"style"}
        if tag != "br":
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.said += " "

    def handle_data(self, data: str) -> None:
        self.said += data
        if self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def html_of(shown: Any) -> str:
    html: str = shown._repr_html_()
    return html


def tables(shown: Any) -> list[list[list[str]]]:
    return Outline(html_of(shown)).tables


def columns(table: list[list[str]]) -> dict[str, list[str]]:
    """The cells below each head."""
    head, *rows = table
    return dict(zip(head, map(list, zip(*rows, strict=True)), strict=True))


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A file with a column whose name, and a layer whose name, would run in a notebook."""
    adata = anndata.AnnData(sparse.csr_matrix(np.eye(40, 5, dtype=np.float32)))
    adata.obs[SCRIPT.replace("/", "")] = pd.Categorical(np.arange(40) % 3)
    adata.layers["<img src=x onerror=alert(1)>"] = adata.X.copy()
    path = tmp_path / "<b>cells & co.h5ad"
    adata.write_h5ad(path, compression="gzip")
    return path


def benchmark() -> Benchmark:
    limits = [BenchLimit("decode", "inflating", 300.0, 1.0), BenchLimit("copy", "copying", 9000.0, 9.0)]
    case = BenchCase.of(
        100,
        order="random",
        block_size=1,
        form="csr",
        rows=10,
        turns=3,
        cells_per_second=250.0,
        slowest=240.0,
        fastest=260.0,
        limits=limits,
        disk=None,
        read_amplification=3.0,
    )
    found = ("Random: <i>inflating</i> is the limit.",)
    return Benchmark("a<b.h5ad", 100, 5, 999, "gzip", 4, 8, "m", 2, None, None, (case,), (), found, "So.")


def everything(path: Path) -> Iterator[Any]:
    loader = ap.stream(path, batch_size=8)
    list(loader)
    column = SCRIPT.replace("/", "")
    source = ap.IndexSource(path)
    yield from (source, source.shuffle_blocks(), loader.pipe, loader, loader.stats(), ap.stream(path).stats())
    yield ap.AnnDataset(path, transform=ap.Log1p(), rows=range(7))
    yield from (ap.inspect(path), ap.check(path), benchmark())
    yield ap.tune(path, column, batch_size=8, blocks=[1, 4], chunks=[16], seconds=1e-6)


def test_everything_from_a_file_is_escaped_and_every_tag_is_ours(hostile: Path) -> None:
    for shown in everything(hostile):
        html = html_of(shown)
        assert Outline(html).said
        assert "<script" not in html
        assert "<img" not in html
        assert "<b>" not in html
        assert "http" not in html


def test_names_of_a_file_are_shown_as_they_are(hostile: Path) -> None:
    said = Outline(html_of(ap.inspect(hostile))).said
    assert SCRIPT.replace("/", "") in said
    assert "<img src=x onerror=alert(1)>" in said
    assert str(hostile) in said


def test_no_colour_is_named_so_that_a_dark_theme_keeps_its_own(hostile: Path) -> None:
    for shown in everything(hostile):
        html = html_of(shown)
        assert "color" not in html
        assert "background" not in html


def test_text_and_table_say_the_same_words(hostile: Path) -> None:
    for report in (ap.inspect(hostile), ap.check(hostile), benchmark()):
        assert sorted(Outline(html_of(report)).said.split()) == sorted(str(report).split())


def test_inspect_has_a_row_for_each_field(hostile: Path) -> None:
    matrices, density, obs, *_ = map(columns, tables(ap.inspect(hostile)))
    assert matrices["matrix"] == density["values per row"] == ["X", "layers/<img src=x onerror=alert(1)>"]
    assert obs["column"] == [f"obs/{SCRIPT.replace('/', '')}", "obs_names"]


def test_bench_has_a_row_for_each_case() -> None:
    cases, limits = map(columns, tables(benchmark()))
    assert cases["cells/s"] == ["250"]
    assert cases["reached"] == ["86%"]
    assert limits["copying"] == ["9,000 (9)"]


def test_statistics_are_a_table_after_a_pass_and_a_sentence_before() -> None:
    shown = Statistics.of({"rows": 8000, "wait": 0.5, "consume": 1.5, "read": 1.2, "decoded": 4e6, "copied": 2e6}, 0)
    found = dict(tables(shown)[0])
    assert found["speed"] == "4,000 cells/s, 2 MB/s decoded"
    assert found["decoded"] == "2 times what was used"
    assert found["waiting"] == "25% of the time"
    before = Outline(html_of(ap.stream(tiny(40)).stats()))
    assert not before.tables
    assert "no batch has been read yet" in before.said


def test_a_pipe_has_a_row_for_each_stage_whose_code_together_is_its_repr() -> None:
    batches = ap.IndexSource(tiny(40)).shuffle_blocks().sort_within_chunks(20).read_rows().batch_rows(4)
    pipe = batches.transform(ap.Log1p()).collate_rows()
    table = columns(tables(pipe)[0])
    assert "".join(table["code"]) == repr(pipe)
    assert ".transform(Log1p())" in table["code"]
    assert table["stage"][:2] == ["IndexSource", "BlockShuffler"]
    assert columns(tables(ap.Loader(pipe))[0]) == table


def test_stages_of_others_are_in_the_table_too() -> None:
    mapped = ap.IndexSource(tiny(40)).sort_within_chunks(20).read_rows().map(str).batch_rows(4)
    assert columns(tables(mapped)[0])["code"][3] == ".map(…)"
    wrapped = ap.RowBatcher(IterableWrapper([]), 4)
    assert len(columns(tables(wrapped)[0])["stage"]) == 2


def test_a_loader_says_how_long_an_epoch_is_and_where_the_next_pass_begins() -> None:
    loader = ap.stream(tiny(40), batch_size=8, seed=3)
    assert "5 batches of 8 rows" in html_of(loader)
    for _ in zip(range(2), loader, strict=False):
        pass
    other = ap.stream(tiny(40), batch_size=8, seed=3)
    other.load_state_dict(loader.state_dict())
    said = Outline(html_of(other)).said
    assert "epoch 0, from batch 2 on" in said
    assert "seed=3" in said


def test_a_source_and_a_dataset_say_what_they_hold() -> None:
    source = Outline(html_of(ap.IndexSource(tiny(40), rows=range(7), block_size=2))).said
    assert "7 rows (of 40)" in source
    assert "4 of 2 rows: as given" in source
    dataset = Outline(html_of(ap.AnnDataset(tiny(40), rows=[1, 2], transform=ap.Log1p()))).said
    assert "2 cells" in dataset
    assert "Log1p()" in dataset
