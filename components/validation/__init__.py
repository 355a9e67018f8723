"""Components that stop a run whose data is invalid or has drifted."""
