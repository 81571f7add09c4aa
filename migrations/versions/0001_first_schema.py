"""The first schema: signals and their queue, features, hours, scores, forecasts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Frozen as they were when this migration was written: the catalogue moves on, a migration does not.
PER_PHASE = [
    "rms",
    "mean",
    "std",
    "min",
    "max",
    "peak",
    "peak_to_peak",
    "crest",
    "form",
    "impulse",
    "shape",
    "skew",
    "kurt",
    "dominant_freq_hz",
    "spectral_centroid_hz",
    "spectral_bandwidth_hz",
    "spectral_rolloff_hz",
    "spectral_entropy",
    "spectral_flatness",
    "total_power",
    "band_power_1",
    "band_power_2",
    "band_power_3",
    "band_power_4",
    "band_power_5",
    "peak_1_freq_hz",
    "peak_1_amplitude",
    "peak_2_freq_hz",
    "peak_2_amplitude",
    "peak_3_freq_hz",
    "peak_3_amplitude",
    "line_freq_hz",
    "fundamental_amplitude",
    "fundamental_phase_deg",
    "thd_pct",
    "harmonic_2_pct",
    "harmonic_3_pct",
    "harmonic_4_pct",
    "harmonic_5_pct",
    "harmonic_6_pct",
    "harmonic_7_pct",
    "harmonic_8_pct",
    "harmonic_9_pct",
    "harmonic_10_pct",
    "harmonic_11_pct",
    "harmonic_12_pct",
    "harmonic_13_pct",
    "harmonic_14_pct",
    "harmonic_15_pct",
    "harmonic_16_pct",
    "harmonic_17_pct",
    "harmonic_18_pct",
    "harmonic_19_pct",
    "harmonic_20_pct",
]
MACHINE = [
    "seq_pos_amplitude",
    "seq_neg_amplitude",
    "seq_zero_amplitude",
    "i2_i1_pct",
    "i0_i1_pct",
    "unbalance_pct",
    "park_mean",
    "park_ripple_pct",
    "park_2f_pct",
]
FEATURES = [*(f"{name}_{phase}" for name in PER_PHASE for phase in "abc"), *MACHINE]
HOURLY = [f"rms_{phase}_{stat}" for phase in "abc" for stat in ("mean", "min", "max", "std")]

# Row 16 of the contract, held by the database: pending -> processing -> completed or failed. A final signal goes back
# to processing only for a person, who says so with `SET LOCAL signal_pipeline.requested = 'on'`, or by way of pending.
GUARD_STATUS = """
CREATE FUNCTION signal_pipeline_guard_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.processing_status, NEW.processing_status) IN
           (('pending', 'processing'), ('processing', 'completed'), ('processing', 'failed'),
            ('failed', 'pending'), ('completed', 'pending'))
       OR (OLD.processing_status IN ('completed', 'failed') AND NEW.processing_status = 'processing'
           AND current_setting('signal_pipeline.requested', true) = 'on')
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'raw signal %: status cannot go from % to %', OLD.id, OLD.processing_status, NEW.processing_status
        USING ERRCODE = 'check_violation',
              HINT = 'A person sets a final signal back to pending, or asks for it in Dagster.';
END $$;

CREATE TRIGGER guard_status BEFORE UPDATE OF processing_status ON raw_signals
    FOR EACH ROW WHEN (OLD.processing_status IS DISTINCT FROM NEW.processing_status)
    EXECUTE FUNCTION signal_pipeline_guard_status();

CREATE FUNCTION signal_pipeline_guard_birth() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'raw signal %: a new signal is pending (or failed, if its file was bad), not %',
        NEW.id, NEW.processing_status USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER guard_birth BEFORE INSERT ON raw_signals
    FOR EACH ROW WHEN (NEW.processing_status NOT IN ('pending', 'failed'))
    EXECUTE FUNCTION signal_pipeline_guard_birth();
"""


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("value", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("name", "shard", name=op.f("pk_counters")),
    )
    op.create_table(
        "equipment",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("pole_pairs", sa.Integer(), nullable=True),
        sa.Column("rated_speed_rpm", sa.Double(), nullable=True),
        sa.Column("line_freq_hz", sa.Double(), nullable=True),
        sa.Column("rated_current_a", sa.Double(), nullable=True),
        sa.Column("rotor_bars", sa.Integer(), nullable=True),
        sa.Column(
            "meta", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_equipment")),
        sa.UniqueConstraint("name", name=op.f("uq_equipment_name")),
    )
    op.create_table(
        "sources",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("n_rows", sa.BigInteger(), nullable=False),
        sa.Column(
            "dialect", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint("sha256", name=op.f("uq_sources_sha256")),
    )
    op.create_table(
        "forecasts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("equipment_id", sa.Uuid(), nullable=False),
        sa.Column("quantity", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hour_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("mean", sa.Double(), nullable=False),
        sa.Column("lower_80", sa.Double(), nullable=True),
        sa.Column("upper_80", sa.Double(), nullable=True),
        sa.Column("lower_95", sa.Double(), nullable=True),
        sa.Column("upper_95", sa.Double(), nullable=True),
        sa.Column("limit_value", sa.Double(), nullable=True),
        sa.Column("exceedance_probability", sa.Double(), nullable=True),
        sa.Column(
            "meta", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["equipment_id"], ["equipment.id"], name=op.f("fk_forecasts_equipment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forecasts")),
        sa.UniqueConstraint(
            "equipment_id",
            "quantity",
            "issued_at",
            "hour_start",
            name=op.f("uq_forecasts_equipment_id_quantity_issued_at_hour_start"),
        ),
    )
    op.create_table(
        "hourly_feature_summary",
        sa.Column("equipment_id", sa.Uuid(), nullable=False),
        sa.Column("hour_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("windows", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in HOURLY),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["equipment_id"], ["equipment.id"], name=op.f("fk_hourly_feature_summary_equipment_id")
        ),
        sa.PrimaryKeyConstraint("equipment_id", "hour_start", name=op.f("pk_hourly_feature_summary")),
    )
    op.create_table(
        "raw_signals",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("equipment_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=True),
        sa.Column("file_name", sa.Text(), nullable=True),
        sa.Column("file_hash", sa.Text(), nullable=True),
        sa.Column("sample_rate_hz", sa.Double(), nullable=True),
        sa.Column(
            "recorded_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("first_row", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lead_in", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("samples_count", sa.Integer(), nullable=True),
        sa.Column("phase_a", sa.LargeBinary(), nullable=True),
        sa.Column("phase_b", sa.LargeBinary(), nullable=True),
        sa.Column("phase_c", sa.LargeBinary(), nullable=True),
        sa.Column("crc32_a", sa.BigInteger(), nullable=True),
        sa.Column("crc32_b", sa.BigInteger(), nullable=True),
        sa.Column("crc32_c", sa.BigInteger(), nullable=True),
        sa.Column(
            "meta", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("processing_status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("claim_token", sa.Uuid(), nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("work_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finalized_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "file_hash IS NULL OR coalesce(meta ->> 'batch_index', '0') = '0'",
            name=op.f("ck_raw_signals_hash_on_batch_0"),
        ),
        sa.CheckConstraint(
            "processing_status <> 'processing' OR claim_token IS NOT NULL",
            name=op.f("ck_raw_signals_processing_is_claimed"),
        ),
        sa.CheckConstraint(
            "processing_status IN ('pending', 'processing', 'completed', 'failed')",
            name=op.f("ck_raw_signals_processing_status"),
        ),
        sa.CheckConstraint(
            "(claim_token IS NULL) = (lease_expires_at IS NULL) AND (claim_token IS NULL) = (claimed_by IS NULL)",
            name=op.f("ck_raw_signals_claim_is_whole"),
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_raw_signals_attempts")),
        sa.CheckConstraint("lead_in >= 0 AND first_row >= lead_in", name=op.f("ck_raw_signals_lead_in")),
        sa.ForeignKeyConstraint(["equipment_id"], ["equipment.id"], name=op.f("fk_raw_signals_equipment_id")),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_raw_signals_source_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_raw_signals")),
        sa.UniqueConstraint("file_hash", name=op.f("uq_raw_signals_file_hash")),
    )
    op.create_index(
        "ix_raw_signals_claim_token",
        "raw_signals",
        ["claim_token"],
        unique=False,
        postgresql_where=sa.text("claim_token IS NOT NULL"),
    )
    op.create_index("ix_raw_signals_equipment_recorded", "raw_signals", ["equipment_id", "recorded_at"], unique=False)
    op.create_index(
        "ix_raw_signals_lease",
        "raw_signals",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("lease_expires_at IS NOT NULL"),
    )
    op.create_index(
        "ix_raw_signals_pending",
        "raw_signals",
        ["created_at", "id"],
        unique=False,
        postgresql_where=sa.text("processing_status = 'pending'"),
    )
    op.create_index(
        "ix_raw_signals_source",
        "raw_signals",
        ["source_id"],
        unique=False,
        postgresql_where=sa.text("source_id IS NOT NULL"),
    )
    op.create_index(
        "ix_raw_signals_status_created",
        "raw_signals",
        ["processing_status", sa.literal_column("created_at DESC")],
        unique=False,
    )
    op.create_table(
        "features",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("raw_id", sa.Uuid(), nullable=False),
        sa.Column("equipment_id", sa.Uuid(), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("feature_version", sa.Text(), nullable=False),
        sa.Column("null_reasons", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("embedding", postgresql.ARRAY(sa.REAL()), nullable=True),
        *(sa.Column(name, sa.Double(), nullable=True) for name in FEATURES),
        sa.ForeignKeyConstraint(["equipment_id"], ["equipment.id"], name=op.f("fk_features_equipment_id")),
        sa.ForeignKeyConstraint(["raw_id"], ["raw_signals.id"], name=op.f("fk_features_raw_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_features")),
        sa.UniqueConstraint("raw_id", "window_start", name=op.f("uq_features_raw_id_window_start")),
    )
    op.create_index("ix_features_equipment_window", "features", ["equipment_id", "window_start"], unique=False)
    op.create_table(
        "anomaly_scores",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("feature_id", sa.BigInteger(), nullable=False),
        sa.Column("raw_id", sa.Uuid(), nullable=False),
        sa.Column("equipment_id", sa.Uuid(), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model_kind", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("is_anomaly", sa.Boolean(), nullable=False),
        sa.Column(
            "meta", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["equipment_id"], ["equipment.id"], name=op.f("fk_anomaly_scores_equipment_id")),
        sa.ForeignKeyConstraint(
            ["feature_id"], ["features.id"], name=op.f("fk_anomaly_scores_feature_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["raw_id"], ["raw_signals.id"], name=op.f("fk_anomaly_scores_raw_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_anomaly_scores")),
        sa.UniqueConstraint(
            "feature_id",
            "model_kind",
            "model_version",
            name=op.f("uq_anomaly_scores_feature_id_model_kind_model_version"),
        ),
    )
    op.create_index(
        "ix_anomaly_scores_equipment_window", "anomaly_scores", ["equipment_id", "window_start"], unique=False
    )
    op.create_index("ix_anomaly_scores_raw", "anomaly_scores", ["raw_id"], unique=False)
    op.execute(GUARD_STATUS)
    # The phases are compressed already: Postgres would try again, in vain, at every write.
    for phase in "abc":
        op.execute(f"ALTER TABLE raw_signals ALTER COLUMN phase_{phase} SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_index("ix_anomaly_scores_raw", table_name="anomaly_scores")
    op.drop_index("ix_anomaly_scores_equipment_window", table_name="anomaly_scores")
    op.drop_table("anomaly_scores")
    op.drop_index("ix_features_equipment_window", table_name="features")
    op.drop_table("features")
    op.drop_index("ix_raw_signals_status_created", table_name="raw_signals")
    op.drop_index("ix_raw_signals_source", table_name="raw_signals", postgresql_where=sa.text("source_id IS NOT NULL"))
    op.drop_index(
        "ix_raw_signals_pending", table_name="raw_signals", postgresql_where=sa.text("processing_status = 'pending'")
    )
    op.drop_index(
        "ix_raw_signals_lease", table_name="raw_signals", postgresql_where=sa.text("lease_expires_at IS NOT NULL")
    )
    op.drop_index("ix_raw_signals_equipment_recorded", table_name="raw_signals")
    op.drop_index(
        "ix_raw_signals_claim_token", table_name="raw_signals", postgresql_where=sa.text("claim_token IS NOT NULL")
    )
    op.drop_table("raw_signals")
    op.execute("DROP FUNCTION signal_pipeline_guard_status, signal_pipeline_guard_birth")
    op.drop_table("hourly_feature_summary")
    op.drop_table("forecasts")
    op.drop_table("sources")
    op.drop_table("equipment")
    op.drop_table("counters")
