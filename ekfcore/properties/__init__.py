"""Properties from a trained model: phonons."""
