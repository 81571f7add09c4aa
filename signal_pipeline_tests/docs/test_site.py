"""The documentation's site builds without a warning, and its list of decisions is whole."""

import os
import subprocess
import sys
from pathlib import Path

from signal_pipeline.orchestration.dispatch import SAMPLES_A_RUN, SIGNAL_IN_SAMPLES

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        # the theme announces its own successor on every build; that says nothing of our pages
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    page = (tmp_path / "site" / "settings" / "index.html").read_text()
    assert "CLAIM_LEASE_SECONDS" in page


def test_every_decision_is_in_the_list_under_its_title() -> None:
    listed = (DECISIONS / "index.md").read_text()
    for record in sorted(DECISIONS.glob("0*.md")):
        title = record.read_text().splitlines()[0].removeprefix("# ")
        assert f"[{title}]({record.name})" in listed


def test_the_page_on_scaling_reckons_with_runs_as_long_as_the_code_makes_them() -> None:
    signals = SAMPLES_A_RUN // (256_000 + SIGNAL_IN_SAMPLES)
    expected = f"{SAMPLES_A_RUN // 10**6} million samples / (256,000 + {SIGNAL_IN_SAMPLES:,}) = {signals} signals a run"
    assert expected in (ROOT / "docs" / "scaling.md").read_text()
