"""Dagster's side: thin ops, assets, sensors and jobs around `processing`.

Decisions are pure functions, tested without Dagster; what correctness rests on is in the database, never in a
cursor, a run key or a run's status. No `from __future__ import annotations` here: Dagster reads the annotations.
"""
