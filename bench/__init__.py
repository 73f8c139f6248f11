"""Speed and size of the appliance, measured from outside: every figure beside its target. Run by
`scripts/bench`.

Each part is a process of its own. Nothing here imports the product; the processes it is measured
against (simulator, ovsdb-server, appliance) are those of tests/support.
"""
