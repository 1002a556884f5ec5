"""The least that a command line with typer can be: what start-up is compared with."""

import typer

app = typer.Typer()


@app.command()
def one(option: int = 0) -> None:
    """Do nothing."""


@app.command()
def other() -> None:
    """Do nothing either."""


if __name__ == "__main__":
    app()
