"""How the pipeline is watched: logs, status, health. Reads the database; changes nothing."""
