"""Metrics: label maps in, numbers out."""
