"""Extended Kalman filter training of neural networks."""
