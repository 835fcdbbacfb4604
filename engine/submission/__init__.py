"""Ray Jobs: what is sent, who submits again, how a run's jobs are found; `ray_client` alone knows Ray."""
