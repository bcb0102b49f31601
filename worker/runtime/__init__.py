"""What any process needs: clock, logs, signals, ports, timeouts, isolated children."""
