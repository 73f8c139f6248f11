"""A simulated VSD: the REST interface of docs/contracts/vsd.md, served over HTTPS, with an admin interface for tests."""
