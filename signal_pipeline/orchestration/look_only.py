"""Dagster's storage where none is configured: enough to look at the definitions, too little to run anything.

`dg check defs`, `dg list defs` and `dagster definitions validate` make a temporary instance from the `dagster.yaml` of
the folder they stand in when there is no DAGSTER_HOME. They store nothing and need no database. A daemon or a run on
such an instance would lose everything, so these are refused (docs/decisions/0096). Not here: the storage (`storage`).
"""

import atexit
import shutil
import tempfile
from typing import Any, NoReturn

from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from signal_pipeline.errors import SettingsError

REFUSAL = (
    "DAGSTER_DATABASE_URL and DAGSTER_HOME are not set, so nothing that runs could be remembered. Start Dagster with "
    "`signal-pipeline dev`, which sets both, or set them yourself."
)


class LookOnlyRunStorage(SqliteRunStorage):
    """Takes no run and no daemon."""

    def add_run(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise SettingsError(REFUSAL)

    def add_daemon_heartbeat(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise SettingsError(REFUSAL)


class LookOnlyStorage(DagsterSqliteStorage):
    """SQLite files in a temporary folder, gone with the process."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        folder = tempfile.mkdtemp(prefix="signal_pipeline-look-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        super().__init__(folder, inst_data)
        self._run_storage = LookOnlyRunStorage.from_local(f"{folder}/look")
