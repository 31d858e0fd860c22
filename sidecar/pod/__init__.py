"""What a pod's volumes need before a sidecar and a proxy share them: made without root."""
