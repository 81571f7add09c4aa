"""Pictures that one reads at a glance: arrays in, PNG bytes out, by matplotlib (the extra `plots`).

Here: how things look, the same wherever they appear, and what is thinned out so that a picture stays small. Not here:
which signals get one, where the arrays come from, and interactive plots (`report`). matplotlib's object-oriented
interface and its Agg canvas only, never pyplot: pictures are drawn in threads and without a display.
"""
