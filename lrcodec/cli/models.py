"""`lrq models`."""

from pathlib import Path

import click

from ..files import check_outputs, printable, write_file
from ..packs import modelfile, store
from ..packs.pack import PackFolder
from .help import Command
from .options import FILE, Model


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List, install, remove or export model packs.

    Lists name, fingerprint, purpose, licence and training data of each.
    """
    if context.invoked_subcommand is None:
        for pack in store.packs():
            _show(pack)


@models.command(cls=Command)
@click.argument("pack", type=FILE)
@click.option("--name", help="Name of the model. Default: the folder's.")
@click.option("-f", "--force", is_flag=True, help="Replace an installed model of that name.")
def add(pack: Path, name: str | None, force: bool) -> None:
    """Install the model pack in the folder PACK.

    It is copied to the folder $LRCODEC_MODELS or, if that is not set, to lrcodec/models in the folder for the
    user's data: on Linux $XDG_DATA_HOME, or ~/.local/share. Then encode knows it by name, and decode finds it by
    itself. Its licence and training data are printed.
    """
    _show(store.install(pack, name, force))


@models.command(cls=Command)
@click.argument("name")
def remove(name: str) -> None:
    """Remove the installed model NAME. Files that were encoded with it can no longer be decoded."""
    store.remove(name)


@models.command(cls=Command)
@click.argument("name", type=Model())
@click.option("-o", "--output", metavar="MODEL.lrqm", type=FILE, required=True, help="The file to write.")
def export(name: str, output: Path) -> None:
    """Write the model NAME, or the one in a folder, as one flat file.

    Decoders that read no packs take it, such as those in formats/. It has all that decoding needs, and no encoder.
    """
    pack = store.find(name)
    check_outputs([output], pack.path.iterdir())
    write_file(output, modelfile.save(pack.load()))


def _show(pack: PackFolder) -> None:
    """Print name, fingerprint and description, and under them licence and data; or that the pack is damaged."""
    if not pack.intact:
        click.echo(f"{pack.name:<12} damaged")
        return
    click.echo(f"{pack.name:<12} {pack.fingerprint.hex()}  {printable(pack.description)}")
    click.echo(f"{'':<31}Licence: {printable(pack.terms.licence)}")
    click.echo(f"{'':<31}Data: {printable(pack.terms.data)}")
