"""A simulated VSD: the REST interface of docs/contracts/vsd.md and an admin interface for tests."""
