"""Several hosts and devices: coordination of processes, and the sharding of arrays.

May import: no other room.
Main names: `multihost.initialize`, `sharding.make_mesh`, `sharding.shardings`.
"""
