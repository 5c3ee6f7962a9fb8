"""Problems that are generated: chains of sums, rendered scenes, reasoning-gym."""
