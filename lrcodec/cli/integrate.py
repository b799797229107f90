"""`lrq integrate`."""

import click

from ..errors import UsageError
from .help import Command


@click.command(cls=Command)
@click.option("--user", is_flag=True, help="For this user: all that is written is in the user's folders.")
@click.option("--remove", is_flag=True, help="Take out again what was written, and nothing else.")
def integrate(user: bool, remove: bool) -> None:
    """Tell file managers, ImageMagick and `file` what .lrq files are.

    Writes, in the user's folders, the MIME type image/x-lrq, an entry for thumbnailers, two delegates of ImageMagick
    and lines of ~/.magic, and prints the path of each. They call this very lrq: run it again if that moves.
    """
    from .. import desktop

    if not (user or remove):
        raise UsageError("say for whom: lrq integrate --user is for this user, and there is no other way yet")
    for line in desktop.remove() if remove else desktop.integrate():
        click.echo(line)
