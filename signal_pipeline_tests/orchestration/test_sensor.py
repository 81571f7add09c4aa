"""Ticks of the sensor against a real instance and a real queue; runs are created as the daemon would, not executed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, Definitions, RunRequest, build_sensor_context
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from signal_pipeline.db import claims
from signal_pipeline.db.engine import create_engine
from signal_pipeline.orchestration import sensors
from signal_pipeline.orchestration.identity import instance_name
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.partitions import PARTITIONS_NAME, RANGE_END, RANGE_START
from signal_pipeline.orchestration.run_state import CLAIM_TAG
from signal_pipeline.orchestration.sensors import STAGES, claim_pending_signals, tick
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ClaimSettings, ClaimStrategy, DatabaseSettings, RetentionSettings, Settings
from signal_pipeline_tests.signals import change, expire, failures, insert_signals, row, statuses, value

Submit = Callable[..., list[DagsterRun]]


@pytest.fixture
def settings() -> Settings:
    return Settings(claims=ClaimSettings(claim_batch_size=3, claim_max_runs=2))


@pytest.fixture
def submit(instance: DagsterInstance, definitions: Definitions) -> Submit:
    """Runs for requests, in some status, as the daemon makes them."""
    job = definitions.resolve_job_def(PROCESS_SIGNALS)

    def create(
        requests: Sequence[RunRequest], status: DagsterRunStatus = DagsterRunStatus.NOT_STARTED, **more: Any
    ) -> list[DagsterRun]:
        return [instance.create_run_for_job(job, tags=r.tags, status=status, **more) for r in requests]

    return create


def ranges(instance: DagsterInstance, requests: Sequence[RunRequest]) -> list[tuple[str, list[str]]]:
    """Token and keys of each request's range."""
    keys = list(instance.get_dynamic_partitions(PARTITIONS_NAME))
    spans = [(keys.index(r.tags[RANGE_START]), keys.index(r.tags[RANGE_END])) for r in requests]
    return [(r.tags[CLAIM_TAG], keys[first : last + 1]) for r, (first, last) in zip(requests, spans, strict=True)]


def held_by_token(engine: Engine) -> dict[str, set[str]]:
    query = """
        SELECT jsonb_object_agg(t, ids) FROM (
            SELECT claim_token AS t, jsonb_agg(id) AS ids FROM raw_signals
            WHERE claim_token IS NOT NULL GROUP BY claim_token) AS held
    """
    return {token: set(ids) for token, ids in value(engine, query).items()}


def assert_each_range_holds_its_own_claim(
    engine: Engine, instance: DagsterInstance, requests: Sequence[RunRequest]
) -> None:
    """And together they hold every signal that is claimed, once."""
    held = held_by_token(engine)
    found: dict[str, list[str]] = {}
    for token, keys in ranges(instance, requests):
        assert set(keys) <= held[token]
        found.setdefault(token, []).extend(keys)
    assert {token: set(keys) for token, keys in found.items()} == held
    assert sum(len(keys) for keys in found.values()) == sum(len(ids) for ids in held.values())


@pytest.mark.parametrize("strategy", ClaimStrategy)
def test_a_tick_claims_as_many_batches_as_there_are_slots(
    engine: Engine, instance: DagsterInstance, strategy: ClaimStrategy
) -> None:
    settings = ClaimSettings(claim_batch_size=3, claim_max_runs=2, claim_strategy=strategy)
    ids = insert_signals(engine, 8)
    requests = tick(instance, Worker(engine, Settings(claims=settings), "instance/test-host"))
    assert [len(keys) for _, keys in ranges(instance, requests)] == [3, 3]
    assert list(instance.get_dynamic_partitions(PARTITIONS_NAME)) == [str(i) for i in ids[:6]]
    assert_each_range_holds_its_own_claim(engine, instance, requests)
    assert sorted(statuses(engine).values()) == ["pending"] * 2 + ["processing"] * 6


def test_a_tick_claims_nothing_while_its_batches_wait_to_start(
    engine: Engine, instance: DagsterInstance, worker: Worker, submit: Submit
) -> None:
    insert_signals(engine, 9)
    submit(tick(instance, worker))
    assert tick(instance, worker) == []


def test_a_tick_claims_ahead_of_runs_that_have_started(
    engine: Engine, instance: DagsterInstance, worker: Worker, submit: Submit
) -> None:
    insert_signals(engine, 9)
    submit(tick(instance, worker), DagsterRunStatus.STARTED)
    requests = tick(instance, worker)
    assert [len(keys) for _, keys in ranges(instance, requests)] == [3]


def test_an_empty_queue_gives_no_request(instance: DagsterInstance, worker: Worker) -> None:
    assert tick(instance, worker) == []


def test_requeued_signals_get_ranges_of_their_own(engine: Engine, instance: DagsterInstance, worker: Worker) -> None:
    """Their old keys stand scattered among those of other signals."""
    ids = insert_signals(engine, 8)
    instance.add_dynamic_partitions(PARTITIONS_NAME, [str(i) for i in ids])
    change(engine, "UPDATE raw_signals SET created_at = '2100-01-01' WHERE id = ANY(:ids)", ids=ids[1::2])
    requests = tick(instance, worker)
    assert_each_range_holds_its_own_claim(engine, instance, requests)
    assert len(requests) == 2, "moved next to each other"


def test_foreign_keys_in_between_split_a_claim_when_a_backfill_forbids_to_move_keys(
    engine: Engine, instance: DagsterInstance, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = insert_signals(engine, 3)
    instance.add_dynamic_partitions(PARTITIONS_NAME, [str(ids[0]), "foreign", str(ids[2])])
    monkeypatch.setattr("signal_pipeline.orchestration.partitions.unfinished_backfills", lambda *_, **__: ["one"])
    requests = tick(instance, worker)
    assert [keys for _, keys in ranges(instance, requests)] == [[str(ids[0])], [str(ids[2]), str(ids[1])]]
    assert_each_range_holds_its_own_claim(engine, instance, requests)
    assert len({r.run_key for r in requests}) == 2


def test_a_tick_that_died_before_its_runs_were_asked_for_is_made_up_for(
    engine: Engine, instance: DagsterInstance, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_signals(engine, 5)
    died = RuntimeError("the daemon was killed")

    def die(*_: object) -> None:
        raise died

    with monkeypatch.context() as patch:
        patch.setattr(sensors, "place_keys", die)
        with pytest.raises(RuntimeError, match="killed"):
            tick(instance, worker)
    before = held_by_token(engine)
    requests = tick(instance, worker)
    again = tick(instance, worker)
    assert held_by_token(engine) == before
    assert [r.run_key for r in requests] == [r.run_key for r in again]
    assert {str(r.run_key).split(":")[0] for r in requests} == set(before)
    assert_each_range_holds_its_own_claim(engine, instance, requests)


def test_only_the_instances_own_claims_are_cared_for(
    engine: Engine, instance: DagsterInstance, worker: Worker, settings: Settings
) -> None:
    insert_signals(engine, 6)
    for name in ("other/test-host", "instance-2/test-host", "process/instance/test-host:7"):
        claims.claim_pending(engine, settings=settings.claims, claimed_by=name)
    assert tick(instance, worker) == []
    expire(engine)
    assert {keys for _, r in ranges(instance, tick(instance, worker)) for keys in r} == set(map(str, statuses(engine)))


def test_the_claim_of_a_run_that_waits_is_kept_alive(
    engine: Engine, instance: DagsterInstance, worker: Worker, submit: Submit
) -> None:
    ids = insert_signals(engine, 6)
    submit(tick(instance, worker))
    expire(engine)
    tokens = set(held_by_token(engine))
    assert tick(instance, worker) == []
    assert set(held_by_token(engine)) == tokens
    assert all(row(engine, i).is_live for i in ids)


def test_the_claim_of_a_run_that_waits_is_not_renewed_while_most_of_its_lease_is_left(
    engine: Engine, instance: DagsterInstance, worker: Worker, submit: Submit
) -> None:
    """A renewal rewrites the rows of all its signals, and the sensor ticks every few seconds."""
    (waiting,) = insert_signals(engine, 1)
    submit(tick(instance, worker))
    lease = row(engine, waiting).lease_expires_at
    tick(instance, worker)
    assert row(engine, waiting).lease_expires_at == lease
    change(engine, "UPDATE raw_signals SET lease_expires_at = now() + interval '30 seconds'")
    tick(instance, worker)
    assert row(engine, waiting).lease_expires_at >= lease


def test_the_claims_of_an_instance_are_its_own_on_whatever_host(
    engine: Engine, instance: DagsterInstance, worker: Worker, submit: Submit
) -> None:
    """A new pod, a recreated container: its host has another name, its storage is the same."""
    ids = insert_signals(engine, 2)
    claimed = tick(instance, worker)
    elsewhere = replace(worker, name="instance/another-host")
    assert [r.run_key for r in tick(instance, elsewhere)] == [r.run_key for r in claimed]
    (run,) = submit(claimed)
    instance.report_run_canceled(run)
    tick(instance, elsewhere)
    assert failures(engine) == dict.fromkeys(ids, "cancelled")


def test_keys_above_the_limit_are_pruned_on_the_way_and_never_those_just_claimed(
    engine: Engine, instance: DagsterInstance, worker: Worker
) -> None:
    old = insert_signals(engine, 6)
    tick(instance, worker)
    change(
        engine,
        "UPDATE raw_signals SET processing_status = 'completed', claim_token = NULL, claimed_by = NULL, "
        "lease_expires_at = NULL, finalized_at = now()",
    )
    new = insert_signals(engine, 3, equipment="another")
    settings = worker.settings.model_copy(update={"retention": RetentionSettings(partition_keys_kept=4)})
    requests = tick(instance, replace(worker, settings=settings))
    kept = list(instance.get_dynamic_partitions(PARTITIONS_NAME))
    assert kept == [str(i) for i in (*old[-1:], *new)]
    assert_each_range_holds_its_own_claim(engine, instance, requests)


def test_signals_of_a_run_that_was_cancelled_while_it_waited_are_failed(
    engine: Engine, instance: DagsterInstance, worker: Worker, submit: Submit
) -> None:
    ids = insert_signals(engine, 3)
    (run,) = submit(tick(instance, worker))
    instance.report_run_canceled(run)
    assert tick(instance, worker) == []
    assert failures(engine) == dict.fromkeys(ids, "cancelled")
    assert "cancelled by a person" in row(engine, ids[0]).meta["failure"]["message"]


def test_a_reexecution_that_waits_does_not_keep_its_parents_claim_alive(
    engine: Engine, instance: DagsterInstance, worker: Worker, submit: Submit
) -> None:
    """It carries the same tag; but its parent is dead, and its signals are to be claimed again."""
    ids = insert_signals(engine, 3)
    requests = tick(instance, worker)
    (parent,) = submit(requests, DagsterRunStatus.FAILURE)
    submit(requests, parent_run_id=parent.run_id, root_run_id=parent.run_id)
    lease = row(engine, ids[0]).lease_expires_at
    assert tick(instance, worker) == []
    assert row(engine, ids[0]).lease_expires_at == lease


def test_a_signal_whose_worker_died_at_it_runs_alone(engine: Engine, instance: DagsterInstance, worker: Worker) -> None:
    ids = insert_signals(engine, 3)
    tick(instance, worker)
    change(engine, "UPDATE raw_signals SET attempts = 1, work_started_at = now() WHERE id = :id", id=ids[1])
    expire(engine)
    found = [set(keys) for _, keys in ranges(instance, tick(instance, worker))]
    assert sorted(found, key=len) == [{str(ids[1])}, {str(ids[0]), str(ids[2])}]


def test_a_signal_that_kills_its_workers_is_buried(engine: Engine, instance: DagsterInstance, worker: Worker) -> None:
    (poison,) = insert_signals(engine, 1)
    for _ in range(3):
        assert len(tick(instance, worker)) == 1
        change(engine, "UPDATE raw_signals SET attempts = attempts + 1, work_started_at = now()")
        expire(engine)
    assert tick(instance, worker) == []
    assert failures(engine) == {poison: "crash_loop"}


def test_a_database_that_is_away_fails_the_tick(instance: DagsterInstance, settings: Settings) -> None:
    nowhere = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", DatabaseSettings())
    with pytest.raises(OperationalError):
        tick(instance, Worker(nowhere, settings, "instance/test-host"))


def test_the_sensor_evaluates_with_its_real_resources(
    engine: Engine, instance: DagsterInstance, definitions: Definitions
) -> None:
    resources = {"worker": (definitions.resources or {})["worker"]}
    with build_sensor_context(instance=instance, resources=resources) as context:
        assert claim_pending_signals.evaluate_tick(context).skip_message is not None
    ids = insert_signals(engine, 4)
    with build_sensor_context(instance=instance, resources=resources) as context:
        requests = claim_pending_signals.evaluate_tick(context).run_requests or []
    assert [len(keys) for _, keys in ranges(instance, requests)] == [3, 1]
    assert row(engine, ids[0]).claimed_by == instance_name(instance)


def test_every_status_of_a_run_has_a_stage() -> None:
    assert set(STAGES) == set(DagsterRunStatus)
