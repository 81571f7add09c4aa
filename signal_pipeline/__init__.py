"""Three-phase motor currents to validated signals, features, anomaly scores and forecasts.

Three doors lead in: `signal_pipeline.cli` (a person's), `signal_pipeline.definitions` (Dagster's)
and `signal_pipeline.read` (a notebook's). Importing the package itself costs nothing and does nothing.
"""

__version__ = "0.1.0"
