"""`python -m shaperun` is the same as `shaperun`."""

from shaperun.cli import main

main()
