"""Several hosts and devices: coordination of processes, and the sharding of arrays.

May import: errors.
Main names: `multihost.initialize`, `sharding.make_mesh`, `sharding.shardings`.
"""
