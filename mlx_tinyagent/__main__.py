"""``python -m mlx_tinyagent``."""

from mlx_tinyagent.cli.main import main

main()
