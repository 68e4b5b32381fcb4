"""Metrics, test-time augmentation, calibration and predictions."""
