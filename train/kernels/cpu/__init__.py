"""The step on CPUs, with numba. `backend` has the step and its paths."""
