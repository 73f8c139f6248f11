"""Decisions and the ownership of state; never sees a socket."""
