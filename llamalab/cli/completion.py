"""`llamalab completion`: shell completion of verbs, options and their words."""

import argparse

from llamalab.cli.arguments import one_of
from llamalab.cli.parser import Parser
from llamalab.hardware import HARDWARE
from llamalab.presets import PRESETS

SUMMARY = "completion of verbs and options for bash, zsh or fish"
EXAMPLES = (
    'eval "$(llamalab completion bash)"',
    "llamalab completion zsh > ~/.zfunc/_llamalab",
    "llamalab completion fish > ~/.config/fish/completions/llamalab.fish",
)
SHELLS = ("bash", "zsh", "fish")
_PATHS = ("--model", "--hardware")  # which take the path of a file too
_FILES = ' $(compgen -f -- "$now")'


def configure(parser: Parser) -> None:
    """The options of `llamalab completion`."""
    parser.add_argument("shell", type=one_of("the shell", SHELLS), metavar="|".join(SHELLS), help="which shell")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    print(script(args.shell))
    return 0


def script(shell: str) -> str:
    """The completion script for a shell."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _words(verb: str) -> list[tuple[str, tuple[str, ...], str]]:
    """(option, the words that may follow, help) of a verb."""
    from llamalab.cli.options_of import options_of

    known = {"--model": tuple(PRESETS), "--hardware": tuple(HARDWARE)}
    return [
        (name, option.words or known.get(name, ()), option.about)
        for option in options_of(verb)
        for name in option.names
        if name.startswith("--")
    ]


def _bash() -> str:
    from llamalab.cli import VERBS

    cases = []
    for verb in VERBS:
        words = _words(verb)
        values = "\n".join(
            f'        {verb},{option}) COMPREPLY=($(compgen -W "{" ".join(choices)}" -- "$now")'
            f"{_FILES if option in _PATHS else ''}); return;;"
            for option, choices, _ in words
            if choices
        )
        names = " ".join(option for option, _, _ in words)
        cases.append((values, f'        {verb}) COMPREPLY=($(compgen -W "{names}" -- "$now"));;'))
    values = "\n".join(value for value, _ in cases if value)
    names = "\n".join(name for _, name in cases)
    return f"""_llamalab() {{
    local now="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" verb="${{COMP_WORDS[1]}}"
    if [[ $COMP_CWORD -eq 1 ]]; then COMPREPLY=($(compgen -W "help {" ".join(VERBS)}" -- "$now")); return; fi
    case "$verb,$before" in
        help,help) COMPREPLY=($(compgen -W "{" ".join(VERBS)}" -- "$now")); return;;
{values}
    esac
    if [[ $now != -* ]]; then COMPREPLY=($(compgen -f -- "$now")); return; fi
    case "$verb" in
{names}
    esac
}}
complete -o filenames -F _llamalab llamalab"""


def _zsh() -> str:
    from llamalab.cli import VERBS

    verbs = "\n".join(f"        '{verb}:{_plain(about)}'" for verb, about in VERBS.items())
    cases = []
    for verb in VERBS:
        specs = " ".join(
            f"'{option}[{_plain(about)}]{f':value:({chr(32).join(choices)})' if choices else ''}'"
            for option, choices, about in _words(verb)
        )
        cases.append(f"        {verb}) _arguments {specs} '*:file:_files';;")
    body = "\n".join(cases)
    return f"""#compdef llamalab
_llamalab() {{
    local -a verbs
    verbs=(
{verbs}
    )
    if (( CURRENT == 2 )); then _describe 'verb' verbs; return; fi
    local verb=$words[2]
    shift words; (( CURRENT-- ))
    case $verb in
{body}
    esac
}}
compdef _llamalab llamalab"""


def _fish() -> str:
    from llamalab.cli import VERBS

    lines = ["complete -c llamalab -n __fish_use_subcommand -f -a help -d 'the options of a verb'"]
    for verb, summary in VERBS.items():
        lines.append(f"complete -c llamalab -n __fish_use_subcommand -f -a {verb} -d '{_plain(summary)}'")
        for option, choices, about in _words(verb):
            words = f" -x -a '{' '.join(choices)}'" if choices else ""
            lines.append(
                f"complete -c llamalab -n '__fish_seen_subcommand_from {verb}' -l {option[2:]}{words} "
                f"-d '{_plain(about)}'"
            )
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A help text without characters that shells interpret."""
    return "".join(" " if sign in "'[]:\"\\`$" else sign for sign in text)
