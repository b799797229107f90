"""How `--help` is laid out: commands and options under headings, each option where one looks for it."""

import click

COMMANDS = {
    "Images": ("encode", "decode", "info", "compare", "view", "thumbnail"),
    "Models": ("models", "train"),
    "Measuring": ("bench", "speed", "paper"),
    "This machine": ("integrate", "selftest"),
}
OPTIONS = {
    "Input": (
        "--original",
        "--frame",
        "--to-8bit",
        "--strip",
        "--recursive",
        "--region",
        "--shrink",
        "--partial",
        "--max-pixels",
        "--tile",
        "--grey",
        "--data",
        "--set",
        "--limit",
    ),
    "Output": (
        *("--output", "--out-dir", "--format", "--output-quality", "--size", "--force", "--skip-existing", "--preview"),
        *("--amplify", "--no-open", "--json", "--plot", "--html"),
    ),
    "Quality and size": (
        *("--quality", "--target-size", "--target-psnr", "--target-ssim", "--effort", "--tune"),
        *("--rank", "--iterations", "--no-smoothing", "--no-transformer"),
    ),
    "Model": ("--model", "--name", "--preset", "--steps", "--seed", "--work", "--train"),
    "Measurements": ("--anchor", "--bpp", "--per-image", "--large"),
    "Machine": ("--user", "--remove", "--c", "--device", "--threads"),
    "Messages": ("--verbose", "--quiet", "--version", "--help"),
}
"""Heading -> options, by their long names, of all commands."""


class Command(click.Command):
    """A command whose help lists its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        for heading, names in OPTIONS.items():
            records = [option.get_help_record(ctx) for option in options if {*option.opts} & {*names}]
            if records:
                with formatter.section(heading):
                    formatter.write_dl([record for record in records if record])


class Group(click.Group):
    """A group whose help lists its commands under headings."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands."""
        width = formatter.width - 6 - max(map(len, self.commands))
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(width)) for name in commands])
