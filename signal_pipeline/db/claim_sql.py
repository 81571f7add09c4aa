"""The statements of the claim, one commented constant each. The functions that run them are in `claims`.

Leases live on the database's clock only, so a worker's clock may be wrong by any amount.

Two rules hold for all of them. Whoever changes several rows locks them in id order first: heartbeat, fence and
finalize of one claim run side by side, and in any other order they deadlock (the fetch skips locked rows instead).
And the rows to change are handed over as `id = ANY(ARRAY(...))` (the fetch: `ctid`): the planner takes an array for ten
rows and goes by the primary key, where a join with a CTE of unknown size makes it read the whole table.

Whoever looks for signals to take writes `(processing_status = '…') IS TRUE`. It says the same, and keeps the planner
off the index on status and time: that one looks as cheap as the right one while the statistics are those of another
hour, and then each fetch visits all that is under way, or sorts all that waits (docs/decisions/0110).
"""

from typing import Final

from sqlalchemy import text

from signal_pipeline.db import counters
from signal_pipeline.domain import Stage

# A signal whose own work was started `max_attempts` times, and was under way when its worker died, kills its worker.
# One whose work had ended (`work_started_at` is NULL) died of something else. No fetch takes it, and each fetch buries
# what it sees of it. SKIP LOCKED: a worker that is alive after all may be finalizing it at this very moment.
BURY_CRASH_LOOPS = text("""
    WITH poison AS (
        SELECT id FROM raw_signals
        WHERE (processing_status = 'processing') IS TRUE AND lease_expires_at < now()
          AND work_started_at IS NOT NULL AND attempts >= :max_attempts
        ORDER BY lease_expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
    UPDATE raw_signals AS r
    SET processing_status = 'failed', finalized_at = now(),
        claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL, work_started_at = NULL,
        meta = r.meta || jsonb_build_object('failure', jsonb_build_object(
            'reason', 'crash_loop', 'stage', 'claim', 'at', to_jsonb(now()),
            'message', format('its own work was started %s times and each time its worker died (last: %s)',
                              r.attempts, r.claimed_by)))
    WHERE r.id = ANY(ARRAY(SELECT id FROM poison))
    RETURNING r.id
""")

_WAITED: Final = "CAST(extract(epoch FROM greatest(now() - created_at, interval '0')) * 1000000 AS bigint)"
"""Microseconds from the load."""

# How the statements that take end: they count what was `taken` themselves, so that a fetch is one round trip and one
# transaction, and hand it over, a row a token. A signal's wait ends, and is counted, once: at the first claim of its
# life. The claim's own time is the database's, from the statement's arrival until the last row was taken: the clock is
# read above the aggregate, which has read them all.
_COUNTED: Final = f"""
    tally AS MATERIALIZED (
        SELECT n, again, CAST(extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000000 AS bigint) AS took
        FROM (SELECT count(*) AS n, count(*) FILTER (WHERE reclaimed) AS again FROM taken) AS every WHERE n > 0
    ), raised AS (
        SELECT '{counters.QUEUE}' AS name, {counters.bucket_of(counters.QUEUE, "waited")} AS le,
               count(*) AS n, CAST(sum(waited) AS bigint) AS microseconds
        FROM taken WHERE waited IS NOT NULL GROUP BY le
        UNION ALL
        SELECT w.* FROM tally, LATERAL (VALUES
            ('{Stage.CLAIM}', {counters.bucket_of(Stage.CLAIM, "took")}, 1, took),
            ('claims_total', 'Infinity', n, NULL),
            ('reclaims_total', 'Infinity', again, NULL)) AS w (name, le, n, microseconds)
        WHERE w.n > 0
    ), counted AS ({counters.INSERT})"""  # noqa: S608  of constants

# S2. Two CTEs, because each has a partial index of its own, and an OR would use neither. Expired leases come first:
# their recovery time is promised. A signal that was being worked on when its worker died is claimed alone (a token of
# its own), so that a poisonous one cannot take neighbours with it; at the attempt cap it is left to be buried. No work
# happens in this transaction. A pending row with a live lease has been borrowed by a person's run of some assets.
# The SET reads the row as it was: `work_started_at` on its right-hand side is the dead worker's. Whether there is
# anything to bury is answered on the way: asking for it each time by a statement of its own cost a fifth of a claim (in
# the order of the lease, and not by EXISTS, which a planner without statistics answers by reading the table).
# Rows are handed over by their place (ctid), not by id: the lock holds them there, and the primary key, whose random
# pages are the first to fall out of the cache, is not searched. Should a row have moved between the statement's start
# and its lock, the UPDATE does not see it, and the next fetch takes it.
CLAIM_BATCH = text(f"""
    WITH expired AS MATERIALIZED (
        SELECT ctid AS place, id FROM raw_signals
        WHERE (processing_status = 'processing') IS TRUE AND lease_expires_at < now()
          AND (work_started_at IS NULL OR attempts < :max_attempts)
        ORDER BY lease_expires_at LIMIT :n FOR UPDATE SKIP LOCKED
    ), waiting AS MATERIALIZED (
        SELECT ctid AS place, id, claimed_at IS NULL AS is_first FROM raw_signals
        WHERE (processing_status = 'pending') IS TRUE AND (lease_expires_at IS NULL OR lease_expires_at < now())
        ORDER BY created_at, id LIMIT (SELECT :n - count(*) FROM expired) FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE raw_signals
        SET processing_status = 'processing', claimed_by = :claimed_by, claimed_at = now(), work_started_at = NULL,
            claim_token = CASE WHEN processing_status = 'processing' AND work_started_at IS NOT NULL
                               THEN gen_random_uuid() ELSE CAST(:token AS uuid) END,
            lease_expires_at = now() + make_interval(secs => :lease_seconds)
        WHERE ctid = ANY(ARRAY(SELECT place FROM expired UNION ALL SELECT place FROM waiting))
        RETURNING id, claim_token, created_at, id IN (SELECT id FROM expired) AS reclaimed,
                  CASE WHEN id IN (SELECT id FROM waiting WHERE is_first) THEN {_WAITED} END AS waited
    ), {_COUNTED}
    SELECT left_behind.poison, held.*
    FROM (SELECT (SELECT true FROM raw_signals
                  WHERE (processing_status = 'processing') IS TRUE AND lease_expires_at < now()
                    AND work_started_at IS NOT NULL AND attempts >= :max_attempts
                  ORDER BY lease_expires_at LIMIT 1) IS NOT NULL AS poison) AS left_behind
    LEFT JOIN (SELECT claim_token, array_agg(id ORDER BY created_at, id) AS ids, min(created_at) AS created_at
               FROM taken GROUP BY claim_token) AS held ON true
""")  # noqa: S608  of constants

# S1 looks without locking, then takes one row at a time; whoever comes second gets no row back.
CANDIDATES = text("""
    (SELECT id FROM raw_signals
     WHERE (processing_status = 'processing') IS TRUE AND lease_expires_at < now()
       AND (work_started_at IS NULL OR attempts < :max_attempts)
     ORDER BY lease_expires_at LIMIT :n)
    UNION ALL
    (SELECT id FROM raw_signals
     WHERE (processing_status = 'pending') IS TRUE AND (lease_expires_at IS NULL OR lease_expires_at < now())
     ORDER BY created_at, id LIMIT :n)
    LIMIT :n
""")

CLAIM_ONE = text(f"""
    WITH taken AS (
        UPDATE raw_signals AS r
        SET processing_status = 'processing', claimed_by = :claimed_by, claimed_at = now(), work_started_at = NULL,
            claim_token = CASE WHEN processing_status = 'processing' AND work_started_at IS NOT NULL
                               THEN gen_random_uuid() ELSE CAST(:token AS uuid) END,
            lease_expires_at = now() + make_interval(secs => :lease_seconds)
        FROM (SELECT id AS was_id, processing_status AS was, claimed_at AS was_claimed
              FROM raw_signals WHERE id = :id) AS o
        WHERE id = :id AND was_id = :id
          AND ((processing_status = 'pending' AND (lease_expires_at IS NULL OR lease_expires_at < now()))
               OR (processing_status = 'processing' AND lease_expires_at < now()
                   AND (work_started_at IS NULL OR attempts < :max_attempts)))
        RETURNING id, claim_token, created_at, was = 'processing' AS reclaimed,
                  CASE WHEN was_claimed IS NULL THEN {_WAITED} END AS waited
    ), {_COUNTED}
    SELECT claim_token, ARRAY[id] AS ids, created_at FROM taken
""")  # noqa: S608  of constants

# Who holds what a person asked for. In id order and waiting for locks: two people may ask for the same ids at once.
LOCK_REQUESTED = text("""
    SELECT id, processing_status, claimed_by, lease_expires_at,
           lease_expires_at >= now() AS is_live
    FROM raw_signals WHERE id = ANY(:ids) ORDER BY id FOR UPDATE
""")

# The database refuses to reopen a final signal unless this is said in the same transaction (see migration 0001).
A_PERSON_ASKS = text("SET LOCAL signal_pipeline.requested = 'on'")

# A person's claim: whatever the state, as long as nobody else is at it (checked under the lock above). A whole run
# sets `processing` and starts counting attempts anew; a run of some assets only borrows token and lease.
TAKE_REQUESTED = text("""
    UPDATE raw_signals
    SET processing_status = CASE WHEN :whole THEN 'processing' ELSE processing_status END,
        attempts = CASE WHEN :whole AND processing_status IN ('completed', 'failed') THEN 0 ELSE attempts END,
        claim_token = :token, claimed_by = :claimed_by, claimed_at = now(), work_started_at = NULL,
        lease_expires_at = now() + make_interval(secs => :lease_seconds)
    WHERE id = ANY(:ids)
""")

# The heartbeat. Only rows that still carry the token: a lease that was lost is never won back. It may have waited for
# a fence, so the lease counts from the clock, not from the transaction's start.
RENEW = text("""
    UPDATE raw_signals SET lease_expires_at = clock_timestamp() + make_interval(secs => :lease_seconds)
    WHERE id = ANY(ARRAY(SELECT id FROM raw_signals WHERE claim_token = :token ORDER BY id FOR NO KEY UPDATE))
    RETURNING id
""")

# The fence: the first statement of every transaction that writes a signal's data. NO KEY, because the rows written
# next reference this one; ORDER BY id, so that two fences never deadlock.
FENCE = text("""
    SELECT id FROM raw_signals WHERE id = ANY(:ids) AND claim_token = :token ORDER BY id FOR NO KEY UPDATE
""")

# The signal's own work begins: only now an attempt is counted, and committed before the work. In a loan nothing is
# counted: it starts only when a person asks. Signals whose work has ended meanwhile, though it is not stored yet, are
# noted in the same breath: their worker's death from now on is not their fault.
START_WORK = text("""
    UPDATE raw_signals
    SET attempts = attempts + CASE WHEN id = :id AND processing_status = 'processing' AND attempts < 2147483647
                                   THEN 1 ELSE 0 END,  -- whatever another program wrote there
        work_started_at = CASE WHEN id = :id THEN clock_timestamp() END,
        lease_expires_at = clock_timestamp() + make_interval(secs => :lease_seconds)
    WHERE id = ANY(ARRAY(SELECT id FROM raw_signals WHERE id = ANY(:ids) AND claim_token = :token
                         ORDER BY id FOR NO KEY UPDATE))
    RETURNING id, attempts
""")

COMPLETE = text("""
    UPDATE raw_signals
    SET processing_status = 'completed', finalized_at = now(), meta = meta - 'failure',
        claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL, work_started_at = NULL
    WHERE id = ANY(ARRAY(SELECT id FROM raw_signals
                         WHERE id = ANY(:ids) AND claim_token = :token AND processing_status = 'processing'
                         ORDER BY id FOR NO KEY UPDATE))
    RETURNING id, finalized_at
""")

FAIL = text("""
    UPDATE raw_signals
    SET processing_status = 'failed', finalized_at = now(),
        meta = meta || jsonb_build_object('failure', CAST(:failure AS jsonb) || jsonb_build_object('at', now())),
        claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL, work_started_at = NULL
    WHERE id = ANY(ARRAY(SELECT id FROM raw_signals
                         WHERE id = ANY(:ids) AND claim_token = :token AND processing_status = 'processing'
                         ORDER BY id FOR NO KEY UPDATE))
    RETURNING id, finalized_at
""")

# What a subset run borrowed goes back as it was: without a claim, or, where a dead worker's claim had been found, with
# one that has run out.
GIVE_BACK = text("""
    UPDATE raw_signals
    SET claim_token = CASE WHEN processing_status = 'processing' THEN claim_token END,
        claimed_by = CASE WHEN processing_status = 'processing' THEN claimed_by END,
        lease_expires_at = CASE WHEN processing_status = 'processing' THEN now() - interval '1 millisecond' END,
        work_started_at = NULL
    WHERE id = ANY(ARRAY(SELECT id FROM raw_signals WHERE claim_token = :token ORDER BY id FOR NO KEY UPDATE))
    RETURNING id
""")

# A worker that stops politely lets its lease end now, so that the next one need not wait for it. What it had not
# finished is no crash: the attempt is given back.
LET_GO = text("""
    UPDATE raw_signals
    SET lease_expires_at = now() - interval '1 millisecond', work_started_at = NULL,
        attempts = CASE WHEN work_started_at IS NULL THEN attempts ELSE greatest(0, attempts - 1) END
    WHERE id = ANY(ARRAY(SELECT id FROM raw_signals
                         WHERE claim_token = :token AND processing_status = 'processing'
                           AND (CAST(:ids AS uuid[]) IS NULL OR id = ANY(CAST(:ids AS uuid[])))
                         ORDER BY id FOR NO KEY UPDATE))
    RETURNING id
""")

HELD = text("""
    SELECT id FROM raw_signals WHERE claim_token = :token ORDER BY created_at, id
""")

# `meta.features` is written in the transaction that stores a signal's features, so it vouches for all of them. Not of
# a signal that failed since: whatever it was retried for, it would be completed on the strength of what was there.
ALREADY_EXTRACTED = text("""
    SELECT id, CAST(meta -> 'features' ->> 'windows' AS integer) AS windows FROM raw_signals
    WHERE claim_token = :token AND meta -> 'features' ->> 'version' = :version AND NOT jsonb_exists(meta, 'failure')
""")

OWN_CLAIMS = text("""
    SELECT claim_token, array_agg(id ORDER BY created_at, id) AS ids, bool_and(lease_expires_at >= now()) AS is_live,
           bool_or(lease_expires_at < now() + make_interval(secs => :due_below)) AS is_due
    FROM raw_signals
    WHERE lease_expires_at IS NOT NULL AND processing_status = 'processing'
      AND (claimed_by = :claimed_by OR starts_with(claimed_by, :claimed_by || '/'))
    GROUP BY claim_token ORDER BY min(created_at)
""")

# A loan whose borrower died is left behind on a failed row; it ends with its lease. SKIP LOCKED: somebody asks for
# that one at this very moment.
RETRY_FAILED = text("""
    UPDATE raw_signals
    SET processing_status = 'pending', attempts = 0, finalized_at = NULL,
        claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL, work_started_at = NULL
    WHERE id = ANY(ARRAY(SELECT id FROM raw_signals
                         WHERE processing_status = 'failed' AND (lease_expires_at IS NULL OR lease_expires_at < now())
                           AND (CAST(:reason AS text) IS NULL OR meta -> 'failure' ->> 'reason' = :reason)
                         ORDER BY id FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING id
""")
