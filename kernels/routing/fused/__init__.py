"""Routed attention as fused Triton kernels (backend "triton"): no score is ever stored, and no gathered key."""
