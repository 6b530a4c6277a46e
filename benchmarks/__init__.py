"""Benchmarks: sucrose beside what people use today and beside what the hardware can do.

Run with ``python -m benchmarks``; the README says how it measures.
"""
