"""The recipe of `docs/backup.md`, typed as it stands there: every row is back, and the work goes on from there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from sqlalchemy import Engine

from signal_pipeline.db import claims, migrate
from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.db.engine import create_engine
from signal_pipeline.settings import DatabaseSettings, Settings
from signal_pipeline_tests.hostile.test_upgrades import all_rows, drain
from signal_pipeline_tests.signals import count, expire, features_hash, insert_signals, statuses

pytestmark = pytest.mark.processes

PAGE = (migrate.PROJECT_ROOT / "docs" / "backup.md").read_text()
SAVE, RESTORE = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
PATIENCE_SECONDS = 300


@contextmanager
def place(home: Path) -> Iterator[Engine]:
    """An engine on the embedded server of `home`, brought up to date."""
    with embedded_server(home, fsync=False) as url:
        migrate.upgrade(url)
        engine = create_engine(url, DatabaseSettings())
        yield engine
        engine.dispose()


def typed(commands: str, home: Path, folder: Path) -> None:
    """Run the page's commands as a person would, with the settings of `home`."""
    environment = os.environ | {
        "SIGNAL_PIPELINE_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["sh", "-e", "-c", commands],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def at_work(engine: Engine) -> None:
    """Two signals are completed, one is held by a worker at this moment, one is pending."""
    insert_signals(engine, 2, equipment="done")
    drain(engine)
    insert_signals(engine, 2, equipment="waiting")
    claimed = claims.claim_pending(engine, settings=Settings().claims, claimed_by="old host", limit=1)
    assert [len(claim.signal_ids) for claim in claimed.claims] == [1]


def test_after_a_restore_every_row_is_back_and_nothing_is_lost_or_twice(tmp_path: Path) -> None:
    old, new, third = (tmp_path / name for name in ("old", "new", "third"))
    with structlog.testing.capture_logs(), place(old) as before:
        at_work(before)
        saved = all_rows(before)
        typed(SAVE, old, tmp_path)
        expire(before)
        drain(before)
        undisturbed = features_hash(before)
    with place(new) as restored:
        restored.dispose()
        typed(RESTORE, new, tmp_path)
        assert all_rows(restored) == saved
        assert sorted(statuses(restored).values()) == ["completed", "completed", "pending", "processing"]
        expire(restored)  # as the old worker's lease does by itself
        with structlog.testing.capture_logs():
            drain(restored)
        assert set(statuses(restored).values()) == {"completed"}
        assert count(restored, "features") == 4 * 3
        assert features_hash(restored) == undisturbed
        saved = all_rows(restored)
        typed(SAVE, new, tmp_path)
    # and a backup of what was restored is as good as the first
    with place(third) as again:
        again.dispose()
        typed(RESTORE, third, tmp_path)
        assert all_rows(again) == saved
