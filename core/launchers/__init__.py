"""Places where a job can run. One file per place."""
