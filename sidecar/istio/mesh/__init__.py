"""Traffic: whose keys Istio's listeners and clusters use, and whom they accept."""
