"""Adapters: one small module a runtime; none imports its runtime, all recognise it by class name."""
