"""From CSV files to rows: which files, how they are read, how samples are stored.

`sources` and `recorded_at` know paths and times, `dialect` and `layout` the form of a file, `blocks`, `cells` and
`bad_cells` its bytes, `csv_reader` puts them together, `codec` turns samples into blobs. Everything here expects
hostile input. Not here: what the samples mean (`dsp`), or the work on a stored signal (`processing`).
"""
