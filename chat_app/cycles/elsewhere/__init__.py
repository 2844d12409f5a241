"""A cycle on another machine: evidence goes there, and a result comes back.

`sending` writes the evidence, `running` runs the cycle where nothing else is, `adding` takes the
result in. `parcels` has what the three share: files with checksums, and the seal of a result.
"""
