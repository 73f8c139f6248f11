"""One module a neighbour: speaks its language, returns model records, raises faults."""
