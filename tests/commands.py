"""Runs the `lrq` command in this process, for the tests of what it does."""

from click.testing import CliRunner, Result

from lrcodec.cli import main as cli


def lrq(*arguments: object, stdin: bytes = b"") -> Result:
    """Run the command."""
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], input=stdin)


def fails(code: int, *arguments: object, stdin: bytes = b"") -> str:
    """Run a command that must fail with `code`, one line on stderr and nothing on stdout; returns the line."""
    result = lrq(*arguments, stdin=stdin)
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout_bytes) == (code, b""), result.output
    assert result.stderr.startswith("lrq: error: ") and result.stderr.count("\n") == 1
    return result.stderr
