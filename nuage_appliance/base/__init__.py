"""What every room stands on: faults, deadlines, the log, the supervisor."""
