"""The database: engine, models, claims, and the statements that write and read domain rows.

The row is the only truth; everything that must be atomic is atomic here. No numerics and no Dagster.
"""
