"""What every layer stands on: faults, deadlines, the log, files, the supervisor."""
