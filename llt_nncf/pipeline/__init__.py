"""The stages after training in one call: freeze, export, validate, and the pictures."""

from llt_nncf.pipeline.deployment import deploy as deploy
