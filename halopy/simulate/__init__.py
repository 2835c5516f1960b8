"""Simulated sky."""
