"""Anomaly models: arrays in, arrays and plain dataclasses out; high = anomalous.

`fitting.fit` makes a `Reference` from healthy windows, `stream.score` moves an equipment's `StreamState` through new
windows, `events.advance` joins what they say into events, `manifest` and `models` keep references on disk. Not here:
the database, Dagster, settings, samples.
"""
