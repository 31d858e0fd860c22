"""The state machine of key and certificate; publishes snapshots."""
