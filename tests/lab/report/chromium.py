"""A headless Chromium that renders a page and reports console messages and measurements."""

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
needed = pytest.mark.skipif(
    BROWSER is None, reason=f"none of {', '.join(NAMES)} is installed: apt-get install chromium"
)


def browse(page: Path, *flags: str) -> tuple[str, list[str]]:
    """Return the document after its scripts have run, and the lines in its console."""
    assert BROWSER is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [
                BROWSER,
                "--headless=new",
                "--no-sandbox",  # which the superuser, as in containers, cannot have
                "--disable-gpu",
                f"--user-data-dir={profile}",
                "--enable-logging=stderr",
                "--virtual-time-budget=2000",
                *(flags or ["--dump-dom"]),
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def evaluate(page: Path, expression: str) -> Any:
    """Evaluate a JavaScript expression in a page, via JSON.

    It runs in a copy without the page's security policy, which would forbid it.
    """
    html = page.read_text()
    html, removed = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    assert removed == 1
    html, _, end = html.rpartition("</body>")
    probe = f"document.body.dataset.found = encodeURIComponent(JSON.stringify({expression}))"
    copy = page.with_suffix(".probe.html")
    copy.write_text(f"{html}<script>{probe}</script></body>{end}")
    document, console = browse(copy)
    found = re.search(r'data-found="([^"]*)"', document)
    assert found, console
    return json.loads(unquote(found[1]))
