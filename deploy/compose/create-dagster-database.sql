-- Dagster's own storage, beside the domain's. Postgres' image runs this once, on an empty volume.
CREATE DATABASE dagster;
