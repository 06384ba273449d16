"""Active learning: explore, select, label, train again."""
