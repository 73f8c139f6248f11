"""Nuage in a box: simulated backends for tests and demonstrations; never part of the product."""
