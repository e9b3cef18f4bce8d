"""``python -m mindsight.cli``."""

from mindsight.cli.main import main

main()
