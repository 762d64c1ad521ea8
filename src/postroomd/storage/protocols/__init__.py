"""The storage interface: one Protocol per resource. Its docstrings are the contract of every implementation.

Unless stated otherwise:

- A method that takes a CallContext is confined to the context's tenant scope. A resource outside the scope is
  NotFound, exactly as one that does not exist.
- A method that writes is one transaction. If it raises, nothing was written. With an idempotency key in a tenant's
  context it raises Replayed if the call was committed before, InvalidArguments if the key was used for another request.
- A rule is a pure function that returns the next value of a resource. If it returns its argument, nothing is written;
  what it raises is raised to the caller. A transaction is retried after a serialization failure, so that a rule may be
  called more than once.
- Every method raises StorageUnavailable if the database can't be reached.
"""
