"""Programs of the system that some tests need beside Python: prometheus, redis-server, nginx, chromium, ip.

Not here: starting them; that stands beside the tests that do. On a machine without one its tests are skipped and say
which package to install; with SIGNAL_PIPELINE_TESTS_REQUIRE_PROGRAMS=1, as in CI, they fail instead.
"""

import os
import shutil
from pathlib import Path

import pytest

PACKAGES = {
    "chromium": "chromium",
    "ip": "iproute2",
    "nginx": "nginx-light",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "redis-server": "redis-server",
}
"""Program -> Debian's package. `.ci/run` installs all of them."""


def program(name: str) -> Path:
    """The path of a program; without it the test is skipped, or fails where programs are required."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is not None:
        return Path(found)
    reason = f"{name} is not installed (on Debian: apt-get install {PACKAGES[name]})"
    if os.environ.get("SIGNAL_PIPELINE_TESTS_REQUIRE_PROGRAMS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
