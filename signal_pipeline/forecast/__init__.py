"""Forecasts of an hourly series: arrays in, arrays and plain dataclasses out.

`issue.issue` forecasts the next hours of one series, with intervals and the probability of passing a limit, or refuses
with a reason; `accuracy` says how good forecasts were. Not here: the database, Dagster, settings, time zones.
"""
