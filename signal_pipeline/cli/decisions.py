"""What a person decides about models: whether a drift is healthy (`proposals`), and which version is used (`models`).

Not here: training and scoring (`models`).
"""

from dataclasses import asdict

import typer

from signal_pipeline.anomaly import models as anomaly_models
from signal_pipeline.anomaly.manifest import latest_version, versions
from signal_pipeline.cli.console import out, print_json
from signal_pipeline.cli.models import show_trained, worker_here
from signal_pipeline.cli.watch import AsJson
from signal_pipeline.db.proposals import decide
from signal_pipeline.processing import proposals, training

proposals_app = typer.Typer(no_args_is_help=True, help="New references that drifted motors propose.")
versions_app = typer.Typer(no_args_is_help=True, help="The versions of the anomaly model.")


@proposals_app.command("list")
def list_proposals(as_json: AsJson = False) -> None:
    """What waits for a decision: what a motor proposes whose reference was replaced since does not."""
    with worker_here() as worker:
        waiting = proposals.waiting_proposals(worker)
    if as_json:
        print_json([asdict(one) for one in waiting])
        return
    for one in waiting:
        moved = ", ".join(f"{name} {shift:+.1f} sd" for name, shift in one.evidence["largest"][:3])
        since = f", since {one.evidence['since']}" if "since" in one.evidence else ""
        told = f"{one.id}  {one.equipment}: {moved}, over {one.evidence['windows']} windows{since}"
        out.print(told, markup=False, soft_wrap=True)
    if not waiting:
        out.print("no motor has drifted")


@proposals_app.command("accept")
def accept_proposal(proposal: int) -> None:
    """The motor is healthy as it is now: train its reference on the windows in which it had drifted."""
    with worker_here() as worker:
        trained = proposals.accept(worker, proposal)
    show_trained(trained)


@proposals_app.command("dismiss")
def dismiss_proposal(proposal: int) -> None:
    """The motor is not healthy, or the old reference shall stand."""
    with worker_here() as worker, worker.engine.begin() as conn:
        decide(conn, proposal, accepted=False)
    out.print(f"proposal {proposal} is dismissed")


@versions_app.command("list")
def list_versions(as_json: AsJson = False) -> None:
    """The versions below MODELS_DIR, oldest first, and which is the latest."""
    with worker_here() as worker:
        root = worker.settings.models.models_dir / anomaly_models.FOLDER
    there, latest = versions(root), latest_version(root)
    if as_json:
        print_json({"versions": there, "latest": latest})
        return
    for name in there:
        out.print(f"{name}  latest" if name == latest else name, markup=False)
    if not there:
        out.print("no model was trained yet")


@versions_app.command("use")
def use(version: str) -> None:
    """Go back to an earlier version: new signals are scored by it from now on."""
    with worker_here() as worker:
        found = training.go_back(worker, version)
    out.print(f"model {found.version} is the latest")
