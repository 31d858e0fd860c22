"""`meshkey doctor`: looks at what a sidecar would run on, and says what is wrong and why."""
