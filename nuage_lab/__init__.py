"""Nuage in a box: simulated neighbours for tests and demonstrations; never part of the shipped driver."""
