"""Signal science: numpy in, numpy out.

No Dagster, no SQLAlchemy, no psycopg, no files: import-linter holds it. Arrays are `(phase, sample)` or
`(phase, window, ...)`, currents in amperes, frequencies in hertz.
"""
