"""Where takes put snapshots: beside the target, and renamed; or in an object store, and shown by one request.

`place` has the interface, `opening` chooses.
"""
