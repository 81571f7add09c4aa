"""What drifted motors propose: which proposals wait for a person, and accepting one. Not here: noticing a drift."""

from datetime import datetime, timedelta

from signal_pipeline.anomaly.models import Models, load_latest
from signal_pipeline.db.proposals import Proposal, decide, open_proposals
from signal_pipeline.errors import ManifestError
from signal_pipeline.processing.training import Trained, train
from signal_pipeline.processing.worker import Worker


def waiting_proposals(worker: Worker) -> list[Proposal]:
    """What waits for a decision, oldest first: open proposals about the references in use.

    One whose reference was replaced asks nothing any more; should a person go back to that version, it waits again.
    Where the models cannot be read, nobody knows which are in use, and all wait.
    """
    with worker.engine.connect() as conn:
        found = open_proposals(conn)
    try:
        models = load_latest(worker.settings.models.models_dir)
    except ManifestError:
        return found
    if models is None:
        return found
    return [one for one in found if _is_of(models, one)]


def _is_of(models: Models, proposal: Proposal) -> bool:
    """Whether the proposal is about a reference that these models hold."""
    chosen = models.chosen(proposal.equipment, "stats" if proposal.model_kind == "stats" else "stream")
    return chosen is not None and chosen.origin.version == proposal.model_version


def accept(worker: Worker, proposal_id: int) -> Trained:
    """Train a new reference on the windows in which a drifted motor leant against its bound, because a person says
    that it is healthy so. Raises `ValueError` if the proposal does not wait for that."""
    found = next((p for p in waiting_proposals(worker) if p.id == proposal_id), None)
    if found is None:
        raise ValueError(
            f"proposal {proposal_id} is not open, or its reference is not in use any more; "
            "signal-pipeline proposals list names those that are"
        )
    if "since" not in found.evidence:
        raise ValueError(
            f"proposal {proposal_id} does not say since when {found.equipment} has drifted: dismiss it, and train "
            "with --equipment, --from and --to"
        )
    since, until = (datetime.fromisoformat(found.evidence[key]) for key in ("since", "until"))
    # `until` is the start of the last window that leant
    trained = train(worker, equipment=[found.equipment], start=since, end=until + timedelta(microseconds=1))
    with worker.engine.begin() as conn:
        decide(conn, proposal_id, accepted=True)
    return trained
