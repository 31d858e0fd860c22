"""Pods: what is injected, configured and allowed so that one has a sidecar of ours."""
