"""The fault laboratory: what happens to hooks when everything around them breaks, counted.

A program, `python -m tests.faults`, and no test double: real processes, a real Redis, real
databases, real sockets. A seeded workload (`workload.py`) is committed by a real web process
(`app.py`), which keeps a ledger of its own (`ledger.py`); meanwhile a fault is injected, and at the
end the ledger is compared with what the receivers got (`comparison.py`).
"""
