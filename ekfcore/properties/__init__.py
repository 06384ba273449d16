"""What follows from a trained model: phonons."""
