"""Settings of every test run."""

import os

# No usage reports from NNCF and OpenVINO; they read this when they are imported.
os.environ["CI"] = "true"
os.environ["NNCF_CI"] = "1"

import torch

torch.set_num_threads(2)
