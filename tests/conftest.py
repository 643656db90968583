"""Settings of every test run."""

import os

# No usage reports from NNCF and OpenVINO; they read this when they are imported.
os.environ["CI"] = "true"
os.environ["NNCF_CI"] = "1"

# Threads that spin while they wait slow each other down a hundredfold when something else runs beside the tests.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import torch

torch.set_num_threads(2)
