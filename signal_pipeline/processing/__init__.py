"""The work on claimed signals: load, validate, extract, summarise, score, finalize. Plain functions, no Dagster.

Dagster's ops call these, `benchmarks/` and a plain loop can, too. Every write is fenced by the claim's token.
Numerics live in `dsp` and `anomaly`, statements in `db`.
"""
