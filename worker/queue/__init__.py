"""The worker's side of the queue: claims on jobs, their heartbeat, their end, and orders from admins."""
