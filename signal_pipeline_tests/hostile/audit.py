"""What is known against the installed dependencies: pip-audit, and plain words when it could not ask. `make audit`.

pip-audit ends with success when the service knows none of the packages, as behind a plain mirror of an index; that is
no clean bill of health, and is told apart here. Exit code 0: all were looked up, nothing is known. 1: something is
known. 2: it could not be looked up.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = ("--local", "--skip-editable", "--progress-spinner", "off", "--timeout", "20", "--format", "json")


def audit() -> tuple[int, str]:
    """The exit code, and what to say."""
    program = Path(sys.executable).with_name("pip-audit")
    done = subprocess.run([program, *COMMAND], capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = done.stderr.strip().splitlines() or ["nothing"]
        return 2, f"not audited: the service cannot be reached from here; pip-audit said: {said[-1]}"
    return verdict(found)


def verdict(found: list[dict[str, Any]]) -> tuple[int, str]:
    """What pip-audit's list of dependencies comes to."""
    asked = [package for package in found if "skip_reason" not in package]
    if not asked:
        return 2, f"not audited: the service that was asked knows none of the {len(found)} packages (a plain mirror?)"
    known = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in {' or '.join(flaw['fix_versions']) or 'none'}"
        for package in asked
        for flaw in package["vulns"]
    ]
    skipped = f"; {len(found) - len(asked)} could not be looked up" if len(asked) < len(found) else ""
    return int(bool(known)), "\n".join([*known, f"{len(asked)} packages looked up, {len(known)} flaws known{skipped}"])


if __name__ == "__main__":
    code, said = audit()
    print(said)
    sys.exit(code)
