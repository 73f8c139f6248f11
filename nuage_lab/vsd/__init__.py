"""A simulated VSD: the REST interface of `vsd-contract`, served over HTTPS, with an admin interface for tests."""
