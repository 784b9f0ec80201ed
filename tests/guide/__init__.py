"""Tests of `bridge.guide`."""
