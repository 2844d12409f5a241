"""From comparisons to a better adapter: the base, three training stages, evaluation, gate, cycle.

A library as well as a part of the service: each stage takes plain records and settings and trains
adapters on one shared base. Import the modules by name (`rlhf_core.train_policy`), so that a
program pays only for what it uses. Nothing here knows the web, and only `cycle` knows the store.
"""
