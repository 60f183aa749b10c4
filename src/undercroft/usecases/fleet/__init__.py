"""Use cases of the fleet: survey, reading, judging, admission, history, revert and release."""
