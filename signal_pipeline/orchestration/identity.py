"""Who this Dagster is: an id kept in its storage, and the names under which its processes hold claims.

The id comes first in a name. A host may be called anything after a restart (a new pod, a recreated container), and one
instance may have workers on many hosts; what belongs together is what shares a storage.
"""

import socket
from uuid import uuid4

from dagster import DagsterInstance

ID_KEY = "signal_pipeline_instance_id"


def instance_id(instance: DagsterInstance) -> str:
    """Tells one Dagster storage from another; made once, the same for every process and after every restart."""
    stored = instance.run_storage.get_cursor_values({ID_KEY}).get(ID_KEY)
    if stored is None:
        instance.run_storage.set_cursor_values({ID_KEY: uuid4().hex[:8]})
        stored = instance.run_storage.get_cursor_values({ID_KEY})[ID_KEY]
    return str(stored)


def instance_name(instance: DagsterInstance) -> str:
    """`id/host`, for people who ask who holds a claim; claims are matched by the id alone."""
    return f"{instance_id(instance)}/{socket.gethostname()}"
