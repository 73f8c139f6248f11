"""Lab hosts: a set of namespaces with its own engine and Open vSwitch, on a machine whose own are
never touched.
"""
