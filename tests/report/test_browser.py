"""The pages in a real Chromium: no message on the console, nothing wider than a telephone, tables and the matrix sort, dark follows."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sgdr_jax.report.run_page import read_run_page, run_html
from sgdr_jax.report.suspects import SuspectRow, read_decisions, suspects_html
from sgdr_jax.sweeps import Sweep, arms
from sgdr_jax.sweeps.analysis import render
from sgdr_jax.sweeps.analysis.compare import compare_arms

from ..helpers import experiment
from ..sweeps.results import fill
from .run_folders import NASTY, write_run

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on the PATH; make test-browser installs it"),
]

PROBE = """<script>
addEventListener("load", () => {
  const found = {
    width: innerWidth, overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    paper: getComputedStyle(document.body).backgroundColor,
    blank: [...document.querySelectorAll("svg.plot")].filter((s) => s.getBoundingClientRect().width < 100).length,
    sorted: [], reachable: [...document.querySelectorAll("th button")].every((b) => b.tabIndex === 0),
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const head = [...table.tHead.rows[0].cells].findIndex((h) => !h.classList.contains("text"));
    table.tHead.rows[0].cells[head].querySelector("button").click();
    found.sorted.push([...table.tBodies[0].rows].map((r) => Number.parseFloat(r.cells[head].textContent.replaceAll(",", ""))));
  }
  const select = document.querySelector("select[data-matrix]");
  if (select) {
    const table = document.getElementById(select.dataset.matrix);
    const names = () => [...table.tBodies[0].rows].map((r) => r.cells[0].textContent);
    const before = names();
    select.value = "missed"; select.dispatchEvent(new Event("change"));
    found.missed = [...table.tBodies[0].rows].map((r) => Number(r.dataset.missed));
    found.square = [...table.tHead.rows[0].cells].slice(1, names().length + 1).every((h, i) => h.textContent === names()[i])
      && [...table.tBodies[0].rows].every((r, i) => r.cells[i + 1].classList.contains("own"));
    select.value = "label"; select.dispatchEvent(new Event("change"));
    found.restored = JSON.stringify(before) === JSON.stringify(names());
  }
  parent.postMessage(JSON.stringify(found), "*");
});
</script></body>"""


DECIDE = """<script>
URL.createObjectURL = (blob) => { blob.text().then((text) => parent.postMessage(JSON.stringify({ text, tally }), "*")); return "data:,"; };
let tally = "";
addEventListener("load", () => {
  const items = document.querySelectorAll("li[data-name]");
  items[0].querySelector("input[value=relabel]").click();
  items[1].querySelector("input[value=drop]").click();
  tally = document.getElementById("tally").textContent;
  document.getElementById("save").click();
});
</script></body>"""


def opened(file: Path, width: int = 360, *, dark: bool = False, probe: str = PROBE) -> dict[str, Any]:
    """Open a page and return what the probe has found; fails where the console has a message.

    The page is in a frame, since no window is narrower than 500 pixels.
    """
    probed, outer = file.with_name("probed.html"), file.with_name("outer.html")
    probed.write_text(file.read_text("utf-8").replace("</body>", probe), "utf-8")
    listen = 'addEventListener("message", (e) => { document.documentElement.dataset.probe = e.data; })'
    outer.write_text(f'<script>{listen}</script><iframe src="{probed.as_uri()}" style="width: {width}px; height: 900px"></iframe>')
    words = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--dump-dom",
        "--virtual-time-budget=3000",
        "--window-size=1300,1000",
    ]
    words += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--user-data-dir={file.parent / 'chromium'}"]
    done = subprocess.run([*words, outer.as_uri()], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, re.findall(".*CONSOLE.*", done.stderr)
    found = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


KINDS: dict[str, dict[str, Any]] = {
    "2 classes": {},
    "10 classes": {"names": tuple(f"class {i}" for i in range(10)), "n": 500},
    "1,000 classes": {"names": tuple(f"class number {i}" for i in range(1000)), "n": 100_000},
    "several labels": {"names": tuple("abcd"), "multi_label": True},
    "interrupted": {"finished": False},
    "names": {"names": NASTY},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_run(tmp_path: Path, kind: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(run_html(read_run_page(write_run(tmp_path / "run", **KINDS[kind]))), "utf-8")
    narrow, wide = opened(page), opened(page, 1200, dark=True)
    assert narrow["paper"] == "rgb(253, 253, 252)" and wide["paper"] == "rgb(21, 23, 26)"
    assert (narrow["width"], wide["width"]) == (360, 1200)
    for found in (narrow, wide):
        assert found["overflow"] <= 0 and found["blank"] == 0 and found["reachable"]
        assert found["sorted"] and all(column == sorted(column, reverse=True) for column in found["sorted"])
        if "missed" in found:
            assert found["missed"] == sorted(found["missed"], reverse=True) and found["square"] and found["restored"]
    assert ("missed" in narrow) == (kind not in ("several labels", "interrupted"))


def test_the_page_of_a_sweep(tmp_path: Path) -> None:
    sweep = Sweep("<b>", experiment(), (arms({"<script>": {}, "[red]": {"label_smoothing": 0.1}}),), seeds=(0, 1, 2))
    fill(tmp_path / "sweep", sweep, lambda run, seed: 0.8)
    page = next(path for path in render.publish(compare_arms(tmp_path / "sweep"), tmp_path / "out") if path.suffix == ".html")
    for found in (opened(page), opened(page, 1200, dark=True)):
        assert found["overflow"] <= 0 and found["sorted"][0] == [3, 3]
        assert all(column == sorted(column, reverse=True) for column in found["sorted"])


@pytest.mark.parametrize("multi_label", [False, True], ids=["one label", "several"])
def test_decisions_are_saved_as_they_are_read(tmp_path: Path, multi_label: bool) -> None:
    rows = [
        SuspectRow(f'{name}, "{i}".png', ("a",), (name, "b")[: 1 + multi_label], 0.1, 0.9, -0.8)
        for i, name in enumerate(("'=x", *NASTY[1:]))
    ]
    page = tmp_path / "suspects.html"
    page.write_text(suspects_html(rows, {}, 10, multi_label, "run"), "utf-8")
    found = opened(page, probe=DECIDE)
    assert found["tally"] == "1 to drop, 1 to relabel"
    (tmp_path / "decisions.csv").write_text(found["text"], "utf-8")
    assert read_decisions(tmp_path / "decisions.csv", multi_label) == ((rows[1].name,), ((rows[0].name, *rows[0].suggested),))
