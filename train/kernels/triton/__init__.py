"""The step on CUDA, with Triton. `backend` has the step and its paths."""
