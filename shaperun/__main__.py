"""`shaperun`, and `python -m shaperun`, which is the same."""


def main() -> None:
    """The command line."""
    # Every worker imports the script that started the program, and with it this file: not the cli.
    from shaperun.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
