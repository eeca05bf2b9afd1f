"""What a notebook shows of a comparison, in headless Chromium.

Needs node, `npm ci` in `tests/browser` of the repository, and Chromium (`/usr/bin/chromium`, or the program that
`CHROMIUM` names). Skipped if one is missing, unless `REQUIRE_BROWSER=1`. `SCREENSHOTS` names a folder for pictures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from bitnet_trace import Comparison, Trace, _compare, capture, diff
from bitnet_trace._native import Session, Site
from bitnet_trace._tensor import record_array
from conftest import decode

TESTS = Path(__file__).parent
BROWSER = TESTS.parents[2] / "tests" / "browser"


def compared(model: Any) -> Comparison:
    """A comparison of a model with itself after one of its weights was changed."""
    traces = []
    for fault in (0.0, 0.5):
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[5, 7] += fault
        with capture(model, memory=True) as recorded:
            decode(model)
        traces.append(recorded.trace)
    return diff(*traces)


def test_a_notebook_shows_the_report(llama: Any, tmp_path: Path) -> None:
    missing = [
        what
        for what, is_there in [
            ("node", shutil.which("node")),
            ("Chromium", Path(os.environ.get("CHROMIUM", "/usr/bin/chromium")).exists()),
            ("`npm ci` in tests/browser", (BROWSER / "node_modules" / "playwright-core").exists()),
        ]
        if not is_there
    ]
    if missing:
        reason = f"missing: {', '.join(missing)}"
        assert os.environ.get("REQUIRE_BROWSER") != "1", reason
        print(f"SKIPPED: {reason}")
        pytest.skip(reason)
    output = tmp_path / "output.html"
    output.write_text(compared(llama)._repr_html_(), encoding="utf-8")
    command = ["node", TESTS / "notebook.mjs", BROWSER / "package.json", output]
    if "SCREENSHOTS" in os.environ:
        command.append(os.environ["SCREENSHOTS"])
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_report_that_is_too_large_is_the_screen(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compared(llama)
    monkeypatch.setattr(_compare, "_MOST_IN_NOTEBOOK", 1000)
    shown = comparison._repr_html_()
    assert "up_proj" in shown
    assert "html()" in shown
    assert "iframe" not in shown


def test_names_of_a_trace_are_not_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    markup = '"><script>alert(1)</script>'
    traces = []
    for value in (1.0, 2.0):
        session = Session.start(None)
        record_array(Site(session.recorder(), None, markup), torch.tensor([value]))
        traces.append(Trace(session.finish()[0]))
    comparison = diff(*traces)
    assert "<script" not in comparison._repr_html_()
    monkeypatch.setattr(_compare, "_MOST_IN_NOTEBOOK", 0)
    assert "<script" not in comparison._repr_html_()
