"""Arguments that begin with a dash: group ids are negative numbers in some messengers."""

from __future__ import annotations

import click


class Command(click.Command):
    """A command with arguments that may begin with a dash and a digit.

    For example the thread id -1001234, and the text "-5 degrees". No option begins so;
    `-- -1001234` means the same.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse with the arguments after all options."""
        valued = {
            name
            for one in self.get_params(ctx)
            if isinstance(one, click.Option) and not one.is_flag and not one.count
            for name in (*one.opts, *one.secondary_opts)
        }
        options: list[str] = []
        arguments: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                arguments.extend(words)
            elif word in valued:
                value = next(words, None)
                if value is None:
                    # Raises: the last word is an option without its value.
                    return super().parse_args(ctx, args)
                options.extend((word, value))
            elif word.startswith("-") and word != "-" and not word[1].isdecimal():
                options.append(word)
            else:
                arguments.append(word)
        return super().parse_args(ctx, [*options, "--", *arguments] if arguments else options)
